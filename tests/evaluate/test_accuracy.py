"""Wilson intervals against published figures, and exact-match scoring."""

import math

import pytest

from nlm_jax.evaluate.accuracy import Prediction, confusion, score, wilson


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    # Newcombe 1998, table I, method 3 (score interval without continuity correction).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval(hits, count, low, high):
    assert wilson(hits, count) == pytest.approx((low, high), abs=5e-5)


def test_wilson_at_the_ends():
    assert wilson(20, 20)[1] == 1.0
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="3 hits of 2"):
        wilson(3, 2)


def made(task, *pairs):
    return [Prediction(task, expected, answer) for expected, answer in pairs]


def test_exact_match_strips_blanks_and_keeps_case():
    s = score(made("a", ("Great Tit", " Great Tit\n"), ("Great Tit", "great tit"), ("Great Tit", "Great"), ("x", "x")))[
        "a"
    ]
    assert (s.hits, s.count, s.accuracy) == (2, 4, 0.5)


def test_collapse_onto_one_answer_is_visible():
    s = score(made("a", *[(name, "cat") for name in ("cat", "dog", "hen", "cat")]))["a"]
    assert (s.kinds_expected, s.kinds_answered) == (3, 1)
    assert (s.most_common, s.most_common_share) == ("cat", 1.0)


def test_tasks_are_scored_apart():
    scores = score([*made("b", ("1", "1")), *made("a", ("2", "1"))])
    assert list(scores) == ["b", "a"]
    assert (scores["b"].hits, scores["a"].hits) == (1, 0)
    assert not math.isnan(scores["a"].accuracy)


def test_confusion_counts_every_prediction_once():
    rows, columns, counts = confusion(made("a", ("cat", "cat"), ("cat", "dog"), ("dog", "dog"), ("dog", "what")), "a")
    assert rows == ["cat", "dog"]
    assert columns == ["cat", "dog", "other"]
    assert counts == [[1, 1, 0], [0, 1, 1]]
