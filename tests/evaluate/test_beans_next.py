"""BEANS-Next's scorer: figures that its own runner reported, and each rule on synthetic responses."""

import json
import os
import pathlib

import pytest

from nlm_jax.evaluate.beans_zero import beans_next
from nlm_jax.evaluate.beans_zero.parts import kind_of, label_sets
from nlm_jax.evaluate.beans_zero.score import score_predictions
from nlm_jax.evaluate.prediction_files import PredictionRow, read_predictions

REAL = pathlib.Path(os.environ.get("NLM_SHARED", "../shared")) / "predictions"
NAMES = ("cbi_query0_lora100", "watkins_query0_lora040", "watkins_query0_lora100", "zf-indiv_query2_lora100")
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not there (NLM_SHARED)")


@needs_real
@pytest.mark.parametrize("name", NAMES)
def test_real_predictions(name):
    rows = read_predictions(REAL / f"{name}.jsonl")
    scores = score_predictions(rows)["beans_next"][rows[0].dataset_name]
    expected = json.loads((REAL / "beans_next_metrics.json").read_text())[name]
    assert expected.pop("n_samples") == len(rows)
    for figure, value in expected.items():
        assert scores[figure] == pytest.approx(value, abs=1e-9)


def read(response, labels, kind="classification"):
    return beans_next.to_labels([response], kind, tuple(labels))[0]


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("  false   KILLER\nwhale ", "False Killer Whale"),  # the label, in any case and with any blanks
        ("a killer whale, not a sperm whale", "Killer Whale"),  # the longest label in it
        ("It is a False Killer Whale.", "False Killer Whale"),
        ("Sperm Whale<|end_of_text|> Killer Whale", "Sperm Whale"),
        ("killer whole", "Killer Whale"),  # the nearest in lower case
        ("Fin, Finback Whale", "Fin, Finback Whale"),
        ("finback", "Narwhal"),  # a label is not split at its comma; 7 edits, as to Walrus
        ("", "Walrus"),  # the shortest is the nearest to the empty text
    ],
)
def test_single_labels(response, expected):
    assert read(response, label_sets()["watkins"]) == expected


def test_the_alphabetically_first_of_equally_near_labels_counts():
    assert read("bat", ["rat", "cat"]) == "cat"
    assert read("Bat", ["CAT", "rat"]) == "CAT"  # in lower case


def test_labels_of_one_or_two_characters_count_as_whole_words_only():
    labels = ["ab", "xyzzy"]
    assert read("cab xyzz", labels) == "xyzzy"  # the nearest: "ab" touches a letter
    assert read("cabs (ab) xyzz", labels) == "ab"


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("#0.0s - 10.0s#: Sus scrofa", "Sus scrofa"),
        ("scrofa, which belongs to Sus", "Sus scrofa"),  # every word, in any order
        ("Castor fiber or Castor canadensis", "Castor canadensis"),  # both occur: the first of the vocabulary
        ("*Castor* **canadensis**", "Castor canadensis"),
        ("Castor fibre", "Castor fiber"),  # not every word: the nearest
        ("octodon", "Octodon degus"),
    ],
)
def test_labels_with_two_words_or_more(response, expected):
    labels = beans_next.vocabulary_of("unseen-family-sci", [])
    assert list(labels) == sorted(labels)
    assert read(response, labels) == expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("b", "B"),
        ("**(C)**.", "C"),
        ("A: a crow. B: a frog. The answer is B", "B"),
        ("The final answer: option (c), as a crow would", "C"),
        ("The best match is **A**, not B", "A"),
        ("It is a crow.\n**B**", "B"),
        ("A crow calls. I would say option C because of a rattle.", "C"),
        ("Between A and B, surely B wins", "B"),
        ("answer: D", "A"),  # none of the letters: the nearest label, and the first of them
    ],
)
def test_single_letters(response, expected):
    for kind in ("classification", "detection"):
        assert read(response, ["A", "B", "C"], kind) == expected


def test_yes_and_no():
    for kind in ("classification", "detection"):
        assert read("Yes, there are birds, and a frog", ["Yes", "No"], kind) == "Yes"
        assert read("NO", ["Yes", "No"], kind) == "No"


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("about 1,654.75", "1200 Hz"),
        ("between 2 and 4000 Hz", "4010 Hz"),  # the last number
        ("300-500 Hz", "401 Hz"),  # the middle of a range
        ("2131-4440 Hz", "401 Hz"),  # a range above 1000 is in tenths of hertz
        ("4010 hz", "4010 Hz"),
        ("low", "401 Hz"),  # no number: the nearest text
    ],
)
def test_frequencies(response, expected):
    assert read(response, ["4010 Hz", "401 Hz", "1200 Hz"]) == expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("Minke whale", "Minke whale"),
        ("I hear a MINKE WHALE!", "Minke whale"),
        ("minke whales calling", "Minke whale"),
        ("Mynke wale", "Minke whale"),  # two edits
        ("Mynke wal", ""),  # three: dropped
        ("nothing at all", ""),
        ("None", "None"),
        ("None, Minke whale", "None, Minke whale"),
        ("", ""),
    ],
)
def test_detections(response, expected):
    assert read(response, label_sets()["hiceas"], "detection") == expected


def test_a_comma_between_digits_does_not_split():
    assert beans_next.split_response("a 1,654 Hz tone, b,, c") == ["a 1,654 Hz tone", "b", "c"]


def figures(part, *pairs, vocabulary=None):
    rows = [PredictionRow(text, label, str(i), part) for i, (text, label) in enumerate(pairs)]
    return score_predictions(rows, vocabulary)["beans_next"][part]


def test_figures_of_single_labels():
    """Of dog, two are predicted, one of them correctly, and one is true; cat: one, one, three; bird: none correct."""
    scores = figures("x", ("dog", "dog"), ("dog", "cat"), ("the cat", "cat"), ("bird", "cat"))
    assert (
        scores["accuracy"] == scores["top1_accuracy"] == scores["precision"] == scores["recall"] == scores["f1"] == 0.75
    )
    scores = figures("esc50", ("dog", "dog"), ("dog", "cat"), ("the cat", "cat"), ("hen", "cat"))
    assert set(scores) == {"accuracy", "top1_accuracy", "precision", "recall", "f1", "macro_f1"}
    assert scores["accuracy"] == 0.5
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


def test_figures_of_detections():
    """Average precision: whale 1 (predicted, first of two rows), None 1/2 (not predicted, correct in the second)."""
    scores = figures("hiceas", ("a minke whale", "Minke whale"), ("seal", "None"))
    assert scores == {
        "accuracy": 0.5, "top1_accuracy": 0.5, "precision": 0.5, "recall": 0.5, "f1": 0.5, "dataset_map": 0.75,
    }  # fmt: skip
    # The text counts as a whole: another order of the same labels is wrong. A response without any label is compared
    # unchanged: dcase has no label "None".
    scores = figures("dcase", ("Ovenbird, American Redstart", "American Redstart, Ovenbird"), ("None", "None"))
    assert scores["accuracy"] == 0.5
    assert scores["dataset_map"] == pytest.approx((1 + 1 + 1 / 2) / 3)


def test_vocabulary_is_fixed_or_that_of_the_data():
    pairs = [("dig", "dog"), ("dog", "dog")]
    assert figures("x", *pairs)["accuracy"] == 1.0
    assert figures("x", *pairs, vocabulary={"x": ["dog", "dig", "cat"]})["accuracy"] == 0.5
    # Labels of unknown parts are split at commas, so that a label with a comma is never matched.
    assert beans_next.vocabulary_of("x", ["b, a", "a", "c"]) == ("b", "a", "c")
    assert figures("x", ("Fin, Finback Whale", "Fin, Finback Whale"))["accuracy"] == 0.0


def test_tasks_with_several_clips():
    """There, letters for clips and "None" are single labels."""
    pairs = [("The answer is B.", "B"), ("a", "A"), ("Sounds like none of them", "None"), ("C", "B")]
    scores = figures("gibbon-fewshot-detection-balanced", *pairs)
    assert scores["accuracy"] == 0.75
    assert set(scores) >= {"macro_f1"}
    assert figures("crow-4way", ("Clip B matches best: it rattles as A does not", "B"), ("A", "A"))["accuracy"] == 0.5


def test_captions():
    one = [("a dog barks <|end_of_text|> loudly", "a dog barks")]
    assert figures("captioning", *one) == {"cider": 0.0}  # undefined for a single caption
    scores = figures("captioning", *one, ("a  cat\nmews", "a cat mews"))
    assert scores["cider"] == pytest.approx(
        figures("captioning", ("a dog barks", "a dog barks"), ("a cat mews", "a cat mews"))["cider"]
    )


def test_labels_of_every_part_are_matched_to_themselves():
    for part, labels in label_sets().items():
        texts = beans_next.to_labels(labels, kind_of(part, labels), beans_next.vocabulary_of(part, labels))
        assert texts == list(labels), part
