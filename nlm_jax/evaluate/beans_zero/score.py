"""Answers in, figures out: both scorers, part by part, and how far equally near labels move the first."""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nlm_jax.evaluate.beans_zero import beans_next, metrics, ties
from nlm_jax.evaluate.beans_zero.cider import cider_d
from nlm_jax.evaluate.beans_zero.parts import CAPTIONING, DETECTION, NONE, Kind, kind_of
from nlm_jax.evaluate.nearest_label import Labels, classified, detected, items, listed, species

Options = Sequence[Sequence[tuple[str, ...]]]
"""Per answer its items, each as the labels that are equally near to it, in sorted order."""
Spice = Callable[[Sequence[str], Sequence[str]], list[float]]
"""(captions, references) -> SPICE of each."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """One line of a predictions file."""

    prediction: str
    label: str
    id: str
    dataset_name: str
    scores: Mapping[str, float] | None = None
    """Label -> its number, where labels were scored instead of an answer generated."""


def score(
    answers: Sequence[Answer], vocabulary: Mapping[str, Sequence[str]] | None = None, spice: Spice | None = None
) -> dict[str, Any]:
    """{"beans_zero": {part: figures}, "beans_next": ..., "tie_interval": {part: {figure: [low, high]}}}.

    Args:
      answers: of any parts, in the order of the file (among equal scores it matters for mAP).
      vocabulary: part -> its labels for `beans_next`; its own for a part that is not named.
      spice: scores captions; without it their figures are CIDEr-D alone.
    """
    found: dict[str, Any] = {"beans_zero": {}, "beans_next": {}, "tie_interval": {}}
    for part, rows in by_part(answers).items():
        kind, given = kind_of_rows(part, rows), (vocabulary or {}).get(part, ())
        texts, labels = [row.prediction for row in rows], [row.label for row in rows]
        found["beans_next"][part] = beans_next.figures(part, kind, texts, labels, given)
        if kind == CAPTIONING:
            found["beans_zero"][part] = captions(rows, spice)
            found["tie_interval"][part] = {name: [v, v] for name, v in found["beans_zero"][part].items()}
            continue
        options = matched(part, rows)
        found["beans_zero"][part] = zero(part, rows, options)
        found["tie_interval"][part] = interval(part, rows, options)
    return found


def by_part(answers: Sequence[Answer]) -> dict[str, list[Answer]]:
    """Part -> its answers, in the order of the file."""
    parts: dict[str, list[Answer]] = collections.defaultdict(list)
    for answer in answers:
        parts[answer.dataset_name].append(answer)
    return dict(parts)


def kind_of_rows(part: str, rows: Sequence[Answer]) -> Kind:
    """What a part asks for, told by its labels where the benchmark does not know it."""
    return kind_of(part, {item for row in rows for item in items(row.label)})


def matched(part: str, rows: Sequence[Answer]) -> list[tuple[tuple[str, ...], ...]]:
    """Per answer its items (one, unless it is a detection), each as the labels that are nearest to it.

    The labels are those that the file has as labels, and of a detection "None".
    """
    if kind_of_rows(part, rows) == DETECTION:
        known = Labels.of([NONE, *(row.label for row in rows)])
        return [detected(row.prediction, known) for row in rows]
    known = Labels.of(row.label for row in rows)
    return [(classified(row.prediction, known),) for row in rows]


def named(options: Sequence[Sequence[str]]) -> str:
    """One text of an answer's items, the first of equally near labels each: what the benchmark's scorer compares."""
    return ", ".join(one[0] for one in options)


def zero(part: str, rows: Sequence[Answer], options: Options) -> dict[str, float]:
    """The benchmark's own scorer of classifications and detections: weighted averages over the labels of the file.

    Args:
      options: what `matched` gives; the first of equally near labels counts.
    """
    labels, texts = [row.label for row in rows], [named(one) for one in options]
    if kind_of_rows(part, rows) == DETECTION:
        truths = [listed(label) for label in labels]
        return metrics.detection([listed(text) for text in texts], truths, species(labels), numbers(rows))
    return metrics.classification(texts, labels)


def interval(part: str, rows: Sequence[Answer], options: Options) -> dict[str, list[float]]:
    """Between which values each figure of `zero` lies whatever the order of the labels, and so the hash seed."""
    labels, own = [row.label for row in rows], zero(part, rows, options)
    if kind_of_rows(part, rows) != DETECTION:
        found = ties.classification([names for (names,) in options], labels)
    else:
        found = ties.detection(options, [listed(label) for label in labels], species(labels))
        if numbers(rows) is not None:  # the order of the recordings comes from real numbers then, and no tie moves it
            found["mAP"] = [own["mAP"]] * 2
    return {name: ties.padded(name, found[name], value) for name, value in own.items()}


def numbers(rows: Sequence[Answer]) -> list[Mapping[str, float]] | None:
    """The scores of all labels, where every answer has them."""
    found = [row.scores for row in rows if row.scores is not None]
    return found if len(found) == len(rows) else None


def captions(rows: Sequence[Answer], spice: Spice | None = None) -> dict[str, float]:
    """CIDEr-D, mean over the captions, `cider_raw_times_10` on the scale of its authors; with SPICE also SPIDEr."""
    given, references = [row.prediction for row in rows], [row.label for row in rows]
    raw = float(np.mean(cider_d(given, references)))
    found = {"cider": raw / 10.0, "cider_raw_times_10": raw}
    if spice is not None:
        found["spice"] = float(np.mean(spice(given, references)))
        found["spider_score"] = (found["cider"] + found["spice"]) / 2.0
    return found


def tied(part: str, rows: Sequence[Answer]) -> int:
    """Answers with more than one nearest label."""
    if kind_of_rows(part, rows) == CAPTIONING:
        return 0
    return sum(any(len(names) > 1 for names in one) for one in matched(part, rows))
