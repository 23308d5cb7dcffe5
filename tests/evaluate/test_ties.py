"""The interval of ties holds what the benchmark's own scorer gives for any order of its label set."""

import itertools
import json
import os
import pathlib
import random

import pytest

from nlm_jax.evaluate import prediction_files
from nlm_jax.evaluate.beans_zero.parts import NONE
from nlm_jax.evaluate.beans_zero.score import Answer, matched, score, zero

REAL = pathlib.Path(os.environ.get("NLM_SHARED", "../shared")) / "predictions"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not there (NLM_SHARED)")
WORDS = ["ab", "ac", "bc", "cb", "abc", "bca", "cc", "acb", "a", "b, ac"]


def figures(part, rows, order):
    """The scorer with ties broken by one order of all labels, as its set has one in a process."""
    place = {name: number for number, name in enumerate(order)}
    options = [tuple(tuple(sorted(names, key=place.__getitem__)) for names in one) for one in matched(part, rows)]
    return zero(part, rows, options)


def labels_of(part, rows):
    return sorted({name for one in matched(part, rows) for names in one for name in names})


def holds(found, part, made):
    for figure, value in made.items():
        low, high = found["tie_interval"][part][figure]
        assert low <= value <= high, (figure, low, value, high)


def answers(seed, part):
    """Random short answers, most of them equally near to several labels."""
    rng = random.Random(seed)
    pool = rng.sample(WORDS, rng.randint(2, 6)) + ([NONE] if part == "rfcx" else [])
    rows = []
    for number in range(rng.randint(2, 25)):
        count = rng.randint(1, 3) if part == "rfcx" else 1
        given = ", ".join("".join(rng.choices("abcx", k=rng.randint(0, 4))) for _ in range(count))
        rows.append(Answer(given, rng.choice(pool), str(number), part))
    return rows


@pytest.mark.parametrize("part", ["x", "rfcx"])
def test_every_order(part):
    """All orders of up to six labels; of more, as many at random."""
    moved = 0
    for seed in range(60):
        rows = answers(seed, part)
        found, names = score(rows), labels_of(part, rows)
        orders = itertools.permutations(names)
        if len(names) > 5:
            orders = (random.Random(k).sample(names, len(names)) for k in range(120))
        for order in orders:
            holds(found, part, figures(part, rows, order))
        moved += any(high > low for low, high in found["tie_interval"][part].values())
    assert moved > 20


def test_many_ties_at_once():
    """More than can be decided in all ways: the interval is wider, and still holds."""
    rng = random.Random(0)
    for part in ("x", "rfcx"):
        pool = [f"{a}{b}" for a in "abcdef" for b in "uvwxyz"][:30]
        rows = [Answer(rng.choice("abcdefuvwxyz") + "?", rng.choice(pool), str(i), part) for i in range(200)]
        if part == "rfcx":
            rows.append(Answer(NONE, NONE, "none", part))
        found, names = score(rows), labels_of(part, rows)
        for _ in range(60):
            holds(found, part, figures(part, rows, rng.sample(names, len(names))))


def test_answers_with_the_same_ties_come_out_alike():
    """Two answers between the same two labels: one order cannot make both right."""
    rows = [Answer("bat", "cat", "0", "x"), Answer("bat", "rat", "1", "x"), Answer("cat", "cat", "2", "x"),
            Answer("rat", "rat", "3", "x")]  # fmt: skip
    low, high = score(rows)["tie_interval"]["x"]["Accuracy"]
    assert (low, high) == (0.75, 0.75)


def test_nothing_is_tied():
    rows = [Answer("dog", "dog", "0", "x"), Answer("elephant", "elephants", "1", "x")]
    found = score(rows)
    assert {tuple(ends) for ends in found["tie_interval"]["x"].values()} == {(1.0, 1.0)}


@needs_real
@pytest.mark.parametrize(
    ("name", "seen"),
    [
        # What the benchmark gave in processes with other hash seeds.
        ("watkins_query0_lora040", [("F1 Score", 0.41576), ("F1 Score", 0.40733), ("Precision", 0.61432)]),
        ("watkins_query0_lora100", [("Precision", 0.79049), ("Accuracy", 0.79351), ("Accuracy", 0.79941)]),
    ],
)
def test_what_the_benchmark_gave_with_other_hash_seeds(name, seen):
    rows = prediction_files.read(REAL / f"{name}.jsonl")
    found, names = score(rows), labels_of("watkins", rows)
    for figure, value in seen:
        low, high = found["tie_interval"]["watkins"][figure]
        assert low - 5e-6 <= value <= high + 5e-6, figure
    for seed in range(20):
        holds(found, "watkins", figures("watkins", rows, random.Random(seed).sample(names, len(names))))
    assert json.dumps(found) == json.dumps(score(rows))
