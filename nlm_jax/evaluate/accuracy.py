"""Scores of closed questions: exact match after stripping blanks, with counts and 95% Wilson intervals, by task."""

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
    def right(self) -> bool:
        """Exact match after stripping outer blanks; upper and lower case count."""
        return self.answer.strip() == self.expected.strip()


@dataclasses.dataclass(frozen=True)
class Score:
    """Accuracy of one task."""

    task: str
    count: int
    hits: int
    low: float
    high: float
    """Ends of the 95% Wilson interval."""
    kinds_expected: int
    """Different right answers in the set."""
    kinds_answered: int
    """Different answers given: far fewer than expected means the model has collapsed onto a few."""
    most_common: str
    most_common_share: float

    @property
    def accuracy(self) -> float:
        return self.hits / self.count if self.count else math.nan


def wilson(hits: int, count: int, z: float = Z) -> tuple[float, float]:
    """Ends of the Wilson score interval of `hits` successes in `count` trials; (0, 1) without trials.

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
    """The score of predictions that all belong to `task`."""
    hits = sum(p.right for p in predictions)
    answers = collections.Counter(p.answer.strip() for p in predictions)
    # Ties go to the alphabetically first answer, so that a report does not depend on the order of examples.
    top = min(answers, key=lambda a: (-answers[a], a)) if answers else ""
    return Score(
        task,
        len(predictions),
        hits,
        *wilson(hits, len(predictions)),
        kinds_expected=len({p.expected.strip() for p in predictions}),
        kinds_answered=len(answers),
        most_common=top,
        most_common_share=answers[top] / len(predictions) if predictions else 0.0,
    )


def score(predictions: Iterable[Prediction]) -> dict[str, Score]:
    """Task -> its score, in the order in which tasks appear."""
    grouped: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        grouped.setdefault(prediction.task, []).append(prediction)
    return {task: score_task(task, members) for task, members in grouped.items()}


def confusion(predictions: Sequence[Prediction], task: str) -> tuple[list[str], list[str], list[list[int]]]:
    """Counts of answers by right answer for one task: (right answers, answers given, counts[right][given]).

    Answers that are right answers of the set come first and in the same order; the rest stands under "other".
    """
    members = [p for p in predictions if p.task == task]
    rows = sorted({p.expected.strip() for p in members})
    other = any(p.answer.strip() not in rows for p in members)
    columns = [*rows, "other"] if other else rows
    counts = [[0] * len(columns) for _ in rows]
    for p in members:
        given = p.answer.strip()
        counts[rows.index(p.expected.strip())][columns.index(given if given in rows else "other")] += 1
    return rows, columns, counts
