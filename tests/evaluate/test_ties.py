"""The tie interval contains the figures of the benchmark's own scorer for any order of its label set."""

import itertools
import json
import os
import pathlib
import random

import pytest

from nlm_jax.evaluate.beans_zero.parts import NONE
from nlm_jax.evaluate.beans_zero.score import label_figures, nearest_labels, score_predictions
from nlm_jax.evaluate.prediction_files import PredictionRow, read_predictions

REAL = pathlib.Path(os.environ.get("NLM_SHARED", "../shared")) / "predictions"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not there (NLM_SHARED)")
WORDS = ["ab", "ac", "bc", "cb", "abc", "bca", "cc", "acb", "a", "b, ac"]


def rows_of(seed, part):
    """Random short responses, most of them equally near to several labels."""
    rng = random.Random(seed)
    labels = rng.sample(WORDS, rng.randint(2, 6)) + ([NONE] if part == "rfcx" else [])
    rows = []
    for number in range(rng.randint(2, 25)):
        count = rng.randint(1, 3) if part == "rfcx" else 1
        text = ", ".join("".join(rng.choices("abcx", k=rng.randint(0, 4))) for _ in range(count))
        rows.append(PredictionRow(text, rng.choice(labels), str(number), part))
    return rows


def labels_of(part, rows):
    return sorted({name for match in nearest_labels(part, rows) for tie in match for name in tie})


def check_orders(result, part, rows, orders):
    """The scorer's figures lie in the intervals for every order of the labels, as its set has one in a process.

    An order decides each tie by its first label; orders that decide all ties alike are scored once.
    """
    matches = nearest_labels(part, rows)
    ties = {tie for match in matches for tie in match}
    decisions = set()
    for order in orders:
        place = {name: number for number, name in enumerate(order)}
        decisions.add(tuple((tie, min(tie, key=place.__getitem__)) for tie in ties))
    for decision in decisions:
        first = dict(decision)
        for figure, value in label_figures(part, rows, [[(first[tie],) for tie in match] for match in matches]).items():
            low, high = result["tie_interval"][part][figure]
            assert low <= value <= high, (figure, low, value, high)


@pytest.mark.parametrize("part", ["x", "rfcx"])
def test_every_order(part):
    """All orders of up to five labels; 120 random orders of more."""
    moved = 0
    for seed in range(60):
        rows = rows_of(seed, part)
        result, names = score_predictions(rows), labels_of(part, rows)
        orders = itertools.permutations(names)
        if len(names) > 5:
            orders = (random.Random(k).sample(names, len(names)) for k in range(120))
        check_orders(result, part, rows, orders)
        moved += any(high > low for low, high in result["tie_interval"][part].values())
    assert moved > 20


def test_many_ties_at_once():
    """More than can be decided in all ways: the interval is wider, and still contains the figures."""
    rng = random.Random(0)
    for part in ("x", "rfcx"):
        labels = [f"{a}{b}" for a in "abcdef" for b in "uvwxyz"][:30]
        rows = [PredictionRow(rng.choice("abcdefuvwxyz") + "?", rng.choice(labels), str(i), part) for i in range(200)]
        if part == "rfcx":
            rows.append(PredictionRow(NONE, NONE, "none", part))
        result, names = score_predictions(rows), labels_of(part, rows)
        check_orders(result, part, rows, (rng.sample(names, len(names)) for _ in range(60)))


def test_predictions_with_the_same_ties_are_decided_alike():
    """Two predictions between the same two labels: one order cannot make both correct."""
    pairs = (("bat", "cat"), ("bat", "rat"), ("cat", "cat"), ("rat", "rat"))
    rows = [PredictionRow(text, label, str(i), "x") for i, (text, label) in enumerate(pairs)]
    low, high = score_predictions(rows)["tie_interval"]["x"]["Accuracy"]
    assert (low, high) == (0.75, 0.75)


def test_no_ties():
    rows = [PredictionRow("dog", "dog", "0", "x"), PredictionRow("elephant", "elephants", "1", "x")]
    result = score_predictions(rows)
    assert {tuple(ends) for ends in result["tie_interval"]["x"].values()} == {(1.0, 1.0)}


@needs_real
@pytest.mark.parametrize(
    ("name", "published"),
    [
        # What the benchmark's scorer returned in processes with other hash seeds.
        ("watkins_query0_lora040", [("F1 Score", 0.41576), ("F1 Score", 0.40733), ("Precision", 0.61432)]),
        ("watkins_query0_lora100", [("Precision", 0.79049), ("Accuracy", 0.79351), ("Accuracy", 0.79941)]),
    ],
)
def test_figures_of_the_benchmark_with_other_hash_seeds(name, published):
    rows = read_predictions(REAL / f"{name}.jsonl")
    result, names = score_predictions(rows), labels_of("watkins", rows)
    for figure, value in published:
        low, high = result["tie_interval"]["watkins"][figure]
        assert low - 5e-6 <= value <= high + 5e-6, figure
    check_orders(result, "watkins", rows, (random.Random(seed).sample(names, len(names)) for seed in range(20)))
    assert json.dumps(result) == json.dumps(score_predictions(rows))
