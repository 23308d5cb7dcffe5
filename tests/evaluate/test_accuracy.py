"""Wilson intervals against published figures, and exact-match scoring."""

import math

import pytest

from nlm_jax.evaluate.accuracy import Prediction, confusion, score_by_task, wilson


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


def predictions(task, *pairs):
    return [Prediction(task, expected, answer) for expected, answer in pairs]


def test_exact_match_strips_blanks_and_is_case_sensitive():
    pairs = (("Great Tit", " Great Tit\n"), ("Great Tit", "great tit"), ("Great Tit", "Great"), ("x", "x"))
    s = score_by_task(predictions("a", *pairs))["a"]
    assert (s.hits, s.count, s.accuracy) == (2, 4, 0.5)


def test_collapse_onto_one_answer_is_visible():
    s = score_by_task(predictions("a", *[(name, "cat") for name in ("cat", "dog", "hen", "cat")]))["a"]
    assert (s.distinct_expected, s.distinct_answers) == (3, 1)
    assert (s.most_common, s.most_common_share) == ("cat", 1.0)


def test_tasks_are_scored_separately():
    scores = score_by_task([*predictions("b", ("1", "1")), *predictions("a", ("2", "1"))])
    assert list(scores) == ["b", "a"]
    assert (scores["b"].hits, scores["a"].hits) == (1, 0)
    assert not math.isnan(scores["a"].accuracy)


def test_confusion_counts_every_prediction_once():
    pairs = (("cat", "cat"), ("cat", "dog"), ("dog", "dog"), ("dog", "what"))
    rows, columns, counts = confusion(predictions("a", *pairs), "a")
    assert rows == ["cat", "dog"]
    assert columns == ["cat", "dog", "other"]
    assert counts == [[1, 1, 0], [0, 1, 1]]
