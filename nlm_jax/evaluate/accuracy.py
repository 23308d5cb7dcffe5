"""Accuracy of closed questions by task: exact match after stripping blanks, with 95% Wilson intervals."""

import collections
import dataclasses
import math
from collections.abc import Iterable, Sequence

Z = 1.959963984540054  # the 97.5th percentile of the normal distribution


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One answered question."""

    task: str
    expected: str
    answer: str
    path: str = ""
    prompt: str = ""

    @property
    def correct(self) -> bool:
        """Exact match after stripping outer blanks; case-sensitive."""
        return self.answer.strip() == self.expected.strip()


@dataclasses.dataclass(frozen=True)
class Score:
    """Accuracy of one task."""

    task: str
    count: int
    hits: int
    low: float
    high: float
    """Ends of the 95% Wilson interval: `low` and `high`."""
    distinct_expected: int
    """Number of distinct expected answers."""
    distinct_answers: int
    """Number of distinct answers: far fewer than expected means that the model has collapsed onto a few."""
    most_common: str
    most_common_share: float

    @property
    def accuracy(self) -> float:
        """Share of correct answers; NaN without questions."""
        return self.hits / self.count if self.count else math.nan


def wilson(hits: int, count: int, z: float = Z) -> tuple[float, float]:
    """The Wilson score interval of a proportion.

    Args:
      hits: successes.
      count: trials.
      z: quantile of the normal distribution; 95% by default.

    Returns:
      (low, high); (0, 1) without trials.

    Raises:
      ValueError: more hits than trials, or a negative number.
    """
    if not 0 <= hits <= count:
        raise ValueError(f"{hits} hits of {count}")
    if count == 0:
        return 0.0, 1.0
    share = hits / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def score_task(task: str, predictions: Sequence[Prediction]) -> Score:
    """The score of one task.

    Args:
      task: its name.
      predictions: all of this task.
    """
    hits = sum(p.correct for p in predictions)
    answers = collections.Counter(p.answer.strip() for p in predictions)
    # Ties: the alphabetically first answer, so that the result does not depend on the order of examples.
    top = min(answers, key=lambda a: (-answers[a], a)) if answers else ""
    return Score(
        task,
        len(predictions),
        hits,
        *wilson(hits, len(predictions)),
        distinct_expected=len({p.expected.strip() for p in predictions}),
        distinct_answers=len(answers),
        most_common=top,
        most_common_share=answers[top] / len(predictions) if predictions else 0.0,
    )


def score_by_task(predictions: Iterable[Prediction]) -> dict[str, Score]:
    """Task -> its score, in the order in which tasks first appear."""
    grouped: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        grouped.setdefault(prediction.task, []).append(prediction)
    return {task: score_task(task, members) for task, members in grouped.items()}


def confusion(predictions: Sequence[Prediction], task: str) -> tuple[list[str], list[str], list[list[int]]]:
    """The confusion matrix of one task.

    Args:
      predictions: of any tasks.
      task: the one to count.

    Returns:
      (expected answers, answers, counts[expected][answer]). The expected answers come first and in the same order
      among the answers; all others are counted as "other".
    """
    members = [p for p in predictions if p.task == task]
    rows = sorted({p.expected.strip() for p in members})
    other = any(p.answer.strip() not in rows for p in members)
    columns = [*rows, "other"] if other else rows
    counts = [[0] * len(columns) for _ in rows]
    for p in members:
        answer = p.answer.strip()
        counts[rows.index(p.expected.strip())][columns.index(answer if answer in rows else "other")] += 1
    return rows, columns, counts
