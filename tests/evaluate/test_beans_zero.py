"""BEANS-Zero's figures: equal to those of its own scorer on synthetic and on real answers, and the same every time."""

import json
import os
import pathlib

import numpy as np
import pytest

from nlm_jax.evaluate import prediction_files
from nlm_jax.evaluate.beans_zero.cider import cider_d
from nlm_jax.evaluate.beans_zero.metrics import float32_sum
from nlm_jax.evaluate.beans_zero.parts import PARTS, SHORT_QUESTION, label_sets, question_of
from nlm_jax.evaluate.beans_zero.score import Answer, numbers, score, tied
from nlm_jax.evaluate.beans_zero.torch_sort import descending
from nlm_jax.evaluate.nearest_label import Labels, classified, cleaned, detected

SHARED = pathlib.Path(os.environ.get("NLM_SHARED", "../shared"))
GOLDEN, REAL = SHARED / "golden" / "eval", SHARED / "predictions"
FILES = ("cbi_query0_lora100", "watkins_query0_lora040", "watkins_query0_lora100", "zf-indiv_query2_lora100")
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"{GOLDEN} is not there (NLM_SHARED)")
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not there (NLM_SHARED)")


def equal(found, expected):
    assert set(expected) <= set(found)
    for name, value in expected.items():
        assert abs(found[name] - value) <= 1e-9, name


@needs_golden
def test_synthetic_answers():
    found = score(prediction_files.read(GOLDEN / "predictions.jsonl"))["beans_zero"]
    expected = json.loads((GOLDEN / "metrics.json").read_text())
    equal(found["watkins"], expected["watkins"])
    equal(found["enabirds"], expected["enabirds"])
    equal(found["captioning"], expected["captioning_cider_only"])


@needs_golden
def test_every_answer_is_matched_as_there():
    answers = prediction_files.read(GOLDEN / "predictions.jsonl")
    matched = {
        r["id"]: r["matched"] for r in map(json.loads, (GOLDEN / "postprocessed.jsonl").read_text().splitlines())
    }
    one = Labels.of(a.label for a in answers if a.dataset_name == "watkins")
    many = Labels.of(x for a in answers if a.dataset_name == "enabirds" for x in map(str.strip, a.label.split(",")))
    for answer in answers:
        if answer.dataset_name == "watkins":
            assert classified(answer.prediction, one)[0] == matched[answer.id]
        elif answer.dataset_name == "enabirds":
            assert ", ".join(x[0] for x in detected(answer.prediction, many)) == matched[answer.id]
        else:
            assert cleaned(answer.prediction) == matched[answer.id]


@needs_golden
def test_each_caption():
    expected = json.loads((GOLDEN / "cider_per_sample_times_10.json").read_text())
    rows = [a for a in prediction_files.read(GOLDEN / "predictions.jsonl") if a.dataset_name == "captioning"]
    found = cider_d([cleaned(a.prediction) for a in rows], [a.label for a in rows])
    np.testing.assert_allclose(found, [expected[a.id] for a in rows], rtol=0, atol=1e-9)


@needs_real
@pytest.mark.parametrize("name", FILES)
def test_real_answers(name):
    found = score(prediction_files.read(REAL / f"{name}.jsonl"))
    for part, expected in json.loads((REAL / "metrics.json").read_text())[name].items():
        equal(found["beans_zero"][part], expected)
        for figure, value in expected.items():
            low, high = found["tie_interval"][part][figure]
            assert low <= value <= high


@needs_real
def test_how_far_ties_move_a_published_figure():
    """Over eight hash seeds the benchmark's own scorer gives accuracies in this interval (README of the answers)."""
    found = score(prediction_files.read(REAL / "watkins_query0_lora100.jsonl"))
    low, high = found["tie_interval"]["watkins"]["Accuracy"]
    assert (round(low, 5), round(high, 5)) == (0.79351, 0.79941)


def answers(part, *pairs):
    return [Answer(given, label, str(i), part) for i, (given, label) in enumerate(pairs)]


def test_the_order_of_equals_is_torchs():
    torch = pytest.importorskip("torch")
    for seed in range(60):
        rng = np.random.default_rng(seed)
        values = rng.integers(0, 2 + seed % 4, rng.integers(1, 600)).astype(np.float32)
        assert descending(values.tolist()) == torch.sort(torch.tensor(values), 0, True).indices.tolist()


def test_float32_sums_stay_close_to_exact_ones():
    for n in (0, 1, 6, 7, 8, 31, 33, 257, 5000):
        values = np.random.default_rng(n).random(n).astype(np.float32)
        assert abs(float(float32_sum(values)) - values.astype(np.float64).sum()) <= 1e-6 * max(n, 1)


def test_ties_are_broken_by_order_and_told():
    rows = answers("x", ("bat", "cat"), ("cat", "cat"), ("rat", "rat"), ("hat", "rat"))
    assert tied("x", rows) == 2
    found = score(rows)
    assert found["beans_zero"]["x"]["Accuracy"] == 0.75  # bat -> cat, hat -> cat: the first in order
    assert found["tie_interval"]["x"]["Accuracy"] == [0.75, 0.75]  # both cat, or both rat


def test_detections():
    labels = Labels.of(["Great Tit", "Blue Tit", "None"])
    assert detected("Grat Tit, something else entirely<|end_of_text|>", labels) == (("Great Tit",), ("None",))
    rows = answers("enabirds", ("Great Tit", "Great Tit"), ("None", "None"), ("Blue Tit", "Great Tit, Blue Tit"))
    found = score(rows)
    # The benchmark's scorer matches an item with whole labels of the file, where Blue Tit never stands alone.
    assert found["beans_zero"]["enabirds"]["Precision"] == 0.5


def test_a_whole_list_is_a_label_of_a_detection():
    """As in the benchmark's scorer: the nearest label to a bird that never stands alone is the list it stands in."""
    rows = answers("rfcx", ("Kingfisher", "Kingfisher, Fox"), ("None", "None"), ("none", "Kingfisher, Fox"))
    found = score(rows)["beans_zero"]["rfcx"]
    assert (found["Precision"], found["Recall"]) == (1.0, 0.5)  # both species, from the one that was named


def test_a_detection_of_one_species():
    """hiceas has one: figures of that species alone, not of its presence and absence."""
    rows = answers("hiceas", ("Minke whale", "Minke whale"), ("Minke whale", "None"), ("None", "Minke whale"))
    found = score(rows)["beans_zero"]["hiceas"]
    assert [found[name] for name in ("F1", "Recall", "Precision")] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("prediction", ["None", "", "Minke whale"])
def test_a_detection_of_nothing(prediction):
    found = score(answers("hiceas", (prediction, "None")))["beans_zero"]["hiceas"]
    assert found == {"mAP": 0.0, "F1": 0.0, "Recall": 0.0, "Precision": 0.0}


def test_real_numbers_rank_the_answers_of_a_detection():
    rows = [
        Answer("Owl", "Owl", "0", "rfcx", {"Owl": 3.0, "Fox": -1.0}),
        Answer("Owl", "Fox", "1", "rfcx", {"Owl": 1.0, "Fox": -2.0}),
        Answer("None", "None", "2", "rfcx", {"Owl": -1.0, "Fox": -3.0}),
    ]
    found = score(rows)
    assert found["beans_zero"]["rfcx"]["mAP"] == 0.75  # Owl is first of three, Fox second
    assert found["tie_interval"]["rfcx"]["mAP"] == [0.75, 0.75]
    assert numbers([*rows, Answer("None", "None", "3", "rfcx")]) is None  # some answers have none: ranked by name


def test_only_the_end_token_cuts_an_answer():
    """As in the benchmark's scorer; a caption is scored as it is, and BEANS-Next's variant cleans both."""
    labels = Labels.of(["dog", "cat"])
    assert classified("dog<|end_of_text|>cat cat", labels) == ("dog",)
    assert classified(" cat", labels) == ("cat",)
    rows = answers("captioning", ("a dog barks<|end_of_text|>", "a dog barks"), ("a cat", "a cat"))
    found = score(rows)
    assert found["beans_zero"]["captioning"]["cider"] < found["beans_next"]["captioning"]["cider"]


def test_unicode_labels():
    rows = answers("x", ("鳥の声", "鳥の声"), ("鳥声", "鳥の声"), ("犬", "犬"), ("naive", "naïve"))
    assert score(rows)["beans_zero"]["x"]["Accuracy"] == 1.0


def test_labels_of_the_parts():
    """As many as the benchmark's card counts; a synonym is written as there."""
    counts = {part: len(set(labels)) for part, labels in label_sets().items()}
    assert counts == {
        "esc50": 50, "watkins": 31, "cbi": 264, "humbugdb": 14, "dcase": 18, "enabirds": 34, "hiceas": 2, "rfcx": 25,
        "gibbons": 4, "unseen-species-cmn": 202, "unseen-species-sci": 200, "unseen-species-tax": 200,
        "unseen-genus-cmn": 105, "unseen-genus-sci": 101, "unseen-genus-tax": 101, "unseen-family-cmn": 40,
        "unseen-family-sci": 36, "unseen-family-tax": 36, "lifestage": 3, "call-type": 2, "zf-indiv": 2,
    }  # fmt: skip
    assert set(counts) == set(PARTS) - {"captioning"}
    for taxon in ("species", "genus", "family"):
        names = zip(label_sets()[f"unseen-{taxon}-sci"], label_sets()[f"unseen-{taxon}-tax"], strict=True)
        assert all(long.endswith(short) and len(long.split()) == 6 for short, long in names)


@needs_real
@pytest.mark.parametrize("name", FILES)
def test_every_label_of_the_real_answers_is_known(name):
    rows = prediction_files.read(REAL / f"{name}.jsonl")
    assert {row.label for row in rows} <= set(label_sets()[rows[0].dataset_name])


@needs_golden
def test_how_a_detection_is_asked():
    """The evaluation processor of the official model: a long list of labels gets the short question."""
    for case in json.loads((SHARED / "golden" / "prompts.json").read_text())["eval_processor"]:
        part = {"detection": "rfcx", "classification": "cbi", "captioning": "captioning"}[case["task"]]
        assert question_of(part, case["instruction"], case["labels"]) in case["result"]
    assert [p for p in PARTS if question_of(p, "?") == SHORT_QUESTION] == ["dcase", "enabirds", "rfcx"]


def test_the_command(nlm, tmp_path):
    file, out = tmp_path / "answers.jsonl", tmp_path / "out"
    prediction_files.write(file, answers("zf-indiv", ("One", "One"), ("1", "One"), ("More", "More")))
    status, printed, _ = nlm("evaluate", "--benchmark=beans-zero", f"--predictions={file}", f"--out={out}")
    assert status == 0
    assert "zf-indiv" in printed
    found = json.loads((out / "metrics.json").read_text())
    assert set(found) == {"beans_zero", "beans_next", "tie_interval"}
    assert set(found["beans_zero"]["zf-indiv"]) == {"Accuracy", "Precision", "Recall", "F1 Score", "Top-1 Accuracy"}


def test_answers_that_are_all_numbers(nlm, tmp_path):
    """pandas would make integers of them, with which the benchmark's own evaluator fails."""
    for rows, says in (
        (answers("zf-indiv", ("1", "One"), ("2", "More")), True),
        (answers("zf-indiv", ("One", "One")), False),
    ):
        prediction_files.write(tmp_path / "a.jsonl", rows)
        status, printed, _ = nlm("evaluate", f"--predictions={tmp_path / 'a.jsonl'}", f"--out={tmp_path / 'out'}")
        assert status == 0
        assert ("all answers are numbers" in " ".join(printed.split())) is says


def test_what_a_predictions_file_may_hold(tmp_path):
    """Lines without an id, nulls, numbers, other columns, a byte order mark; the same as CSV."""
    lines = ['{"prediction": null, "label": 3, "dataset_name": "x"}', "",
             '{"prediction": "鳥", "label": "a, b", "dataset_name": "x", "id": 7, "split": "test"}']  # fmt: skip
    (tmp_path / "a.jsonl").write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    (tmp_path / "a.csv").write_text('label,prediction,dataset_name,id\n3,,x,1\n"a, b",鳥,x,7\n', encoding="utf-8")
    expected = [Answer("", "3", "1", "x"), Answer("鳥", "a, b", "7", "x")]
    assert prediction_files.read(tmp_path / "a.jsonl") == prediction_files.read(tmp_path / "a.csv") == expected


def test_empty_answers_one_class_and_answers_twice(nlm, tmp_path):
    """Nothing was answered, or one label is all there is; ids that stand twice are told and all count."""
    rows = [*answers("call-type", ("", "song"), ("", "song")), *answers("call-type", ("song", "song"))]
    prediction_files.write(tmp_path / "a.jsonl", rows)
    status, printed, _ = nlm("evaluate", f"--predictions={tmp_path / 'a.jsonl'}", f"--out={tmp_path / 'out'}")
    assert status == 0
    assert "1 answers to a question that has one already; all count" in " ".join(printed.split())
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(found["beans_zero"]["call-type"].values()) == {1.0}  # the only label is the nearest to anything
    assert found["beans_next"]["call-type"]["accuracy"] == pytest.approx(1 / 3)  # "call" is as near to nothing
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file"),
        ("", "holds no prediction"),
        ("{", "line 1 is not JSON"),
        ('{"prediction": "a", "label": "b", "id": 1}', "line 1 has no 'dataset_name'"),
        ("[1]", "line 1 has no 'an object'"),
        ('{"prediction": "a", "label": "b", "dataset_name": ""}', "line 1 has an empty dataset_name"),
        ("\udcff", "is not UTF-8 text"),
    ],
)
def test_mistakes(nlm, tmp_path, content, says):
    file = tmp_path / "answers.jsonl"
    if content is not None:
        file.write_text(content, encoding="utf-8", errors="surrogateescape")
    status, _, err = nlm("evaluate", f"--predictions={file}", f"--out={tmp_path / 'out'}")
    assert status == 2
    assert says in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
