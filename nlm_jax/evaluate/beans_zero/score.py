"""Answers in, figures out: both scorers, part by part, and how far equally near labels move the first."""

import collections
import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nlm_jax.evaluate.beans_zero import metrics
from nlm_jax.evaluate.beans_zero.cider import cider_d
from nlm_jax.evaluate.beans_zero.match import Labels, chosen, classified, cleaned, detected, items
from nlm_jax.evaluate.beans_zero.parts import CAPTIONING, DETECTION, kind_of

DRAWS = 16
"""Random ways of breaking ties that are tried beside the sorted, the reversed, the best and the worst one."""
Break = Callable[[Sequence[str], str], str]
"""(equally near labels in sorted order, true label) -> one of them."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """One line of a predictions file."""

    prediction: str
    label: str
    id: str
    dataset_name: str


def first(options: Sequence[str], _label: str) -> str:
    """The first in sorted order: how ties are broken."""
    return options[0]


def score(answers: Sequence[Answer], vocabulary: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
    """{"beans_zero": {part: figures}, "beans_next": ..., "tie_interval": {part: {figure: [low, high]}}}.

    Args:
      answers: of any parts, in the order of the file (among equal scores it matters for mAP).
      vocabulary: part -> its fixed labels for `beans_next`; those of the file where a part is not named.
    """
    parts: dict[str, list[Answer]] = collections.defaultdict(list)
    for answer in answers:
        parts[answer.dataset_name].append(answer)
    found: dict[str, Any] = {"beans_zero": {}, "beans_next": {}, "tie_interval": {}}
    for part, rows in parts.items():
        fixed = (vocabulary or {}).get(part)
        found["beans_zero"][part] = zero(part, rows)
        found["beans_next"][part] = following(part, rows, fixed)
        found["tie_interval"][part] = interval(part, rows)
    return found


def zero(part: str, rows: Sequence[Answer], choose: Break = first) -> dict[str, float]:
    """The benchmark's own scorer: the labels of the file, weighted averages; `choose` breaks ties."""
    labels = [row.label for row in rows]
    kind = kind_of(part, {item for label in labels for item in items(label)})
    if kind == CAPTIONING:
        return captions(rows)
    if kind == DETECTION:
        known = Labels.of(item for label in labels for item in items(label))
        given = [[choose(options, row.label) for options in detected(row.prediction, known)] for row in rows]
        return metrics.detection(given, labels, known.names)
    known = Labels.of(labels)
    return metrics.classification([choose(classified(row.prediction, known), row.label) for row in rows], labels)


def following(part: str, rows: Sequence[Answer], vocabulary: Sequence[str] | None) -> dict[str, float]:
    """The variant of BEANS-Next: a fixed vocabulary, and every label counts alike (macro averages)."""
    labels = [row.label for row in rows]
    inside = {item for label in labels for item in items(label)}
    kind = kind_of(part, inside)
    if kind == CAPTIONING:
        return captions(rows)
    if kind == DETECTION:
        known = Labels.of(vocabulary or inside)
        given = [[options[0] for options in detected(row.prediction, known)] for row in rows]
        return metrics.detection(given, labels, known.names)
    known = Labels.of(vocabulary or labels)
    given = [classified(row.prediction, known)[0] for row in rows]
    return metrics.classification(given, labels, average="macro")


def captions(rows: Sequence[Answer]) -> dict[str, float]:
    """CIDEr-D, mean over the captions; `cider_raw_times_10` is the same on the scale of the metric's authors."""
    raw = float(np.mean(cider_d([cleaned(row.prediction) for row in rows], [row.label for row in rows])))
    return {"cider": raw / 10.0, "cider_raw_times_10": raw}


def interval(part: str, rows: Sequence[Answer]) -> dict[str, list[float]]:
    """Lowest and highest of each figure over ways to break ties: what a published figure may have been."""
    random_ = random.Random(0)

    def right(options: Sequence[str], label: str) -> str:
        return next((o for o in options if o in (label, *items(label))), options[0])

    def wrong(options: Sequence[str], label: str) -> str:
        return next((o for o in options if o not in (label, *items(label))), options[0])

    ways: list[Break] = [first, lambda options, _: chosen(options, len(options)), right, wrong]
    if not tied(part, rows):
        ways = [first]
    else:
        ways += [lambda options, _: random_.choice(list(options))] * DRAWS
    tried = [zero(part, rows, way) for way in ways]
    return {name: [min(t[name] for t in tried), max(t[name] for t in tried)] for name in tried[0]}


def tied(part: str, rows: Sequence[Answer]) -> int:
    """Answers with more than one nearest label."""
    labels = [row.label for row in rows]
    inside = {item for label in labels for item in items(label)}
    kind = kind_of(part, inside)
    if kind == CAPTIONING:
        return 0
    if kind == DETECTION:
        known = Labels.of(inside)
        return sum(any(len(options) > 1 for options in detected(row.prediction, known)) for row in rows)
    known = Labels.of(labels)
    return sum(len(classified(row.prediction, known)) > 1 for row in rows)
