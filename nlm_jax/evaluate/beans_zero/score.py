"""Answers in, figures out: both scorers, part by part, and how far equally near labels move the first."""

import collections
import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nlm_jax.evaluate.beans_zero import metrics
from nlm_jax.evaluate.beans_zero.cider import cider_d
from nlm_jax.evaluate.beans_zero.match import Labels, classified, cleaned, detected, items, listed, species
from nlm_jax.evaluate.beans_zero.parts import CAPTIONING, DETECTION, NONE, Kind, kind_of, label_sets

DRAWS = 16
"""Random ways of breaking ties that are tried beside the first, the last, the best and the worst one."""
Break = Callable[[Sequence[str], str], str]
"""(equally near labels in sorted order, true label) -> one of them."""
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


def first(options: Sequence[str], _label: str) -> str:
    """The first in sorted order: how ties are broken."""
    return options[0]


def score(
    answers: Sequence[Answer], vocabulary: Mapping[str, Sequence[str]] | None = None, spice: Spice | None = None
) -> dict[str, Any]:
    """{"beans_zero": {part: figures}, "beans_next": ..., "tie_interval": {part: {figure: [low, high]}}}.

    Args:
      answers: of any parts, in the order of the file (among equal scores it matters for mAP).
      vocabulary: part -> its fixed labels for `beans_next`; the benchmark's own for a part that is not named. Labels of
        the answers that it lacks join it.
      spice: scores captions; without it their figures are CIDEr-D alone.
    """
    found: dict[str, Any] = {"beans_zero": {}, "beans_next": {}, "tie_interval": {}}
    for part, rows in by_part(answers).items():
        fixed = (vocabulary or {}).get(part) or label_sets().get(part, ())
        if kind_of_rows(part, rows) == CAPTIONING:
            found["beans_zero"][part] = captions(rows, [row.prediction for row in rows], spice)
            found["beans_next"][part] = captions(rows, [cleaned(row.prediction) for row in rows])
            found["tie_interval"][part] = {name: [v, v] for name, v in found["beans_zero"][part].items()}
            continue
        found["beans_zero"][part] = zero(part, rows)
        found["beans_next"][part] = following(part, rows, fixed)
        found["tie_interval"][part] = interval(part, rows)
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


def named(options: Sequence[Sequence[str]], label: str, choose: Break = first) -> str:
    """One text of an answer's items, ties broken by `choose`: what the benchmark's scorer compares."""
    return ", ".join(choose(one, label) for one in options)


def zero(
    part: str,
    rows: Sequence[Answer],
    choose: Break = first,
    options: Sequence[Sequence[Sequence[str]]] | None = None,
) -> dict[str, float]:
    """The benchmark's own scorer of classifications and detections: weighted averages over the labels of the file.

    Args:
      choose: breaks ties.
      options: what `matched` gives, where it is known already.
    """
    labels = [row.label for row in rows]
    texts = [named(one, label, choose) for one, label in zip(options or matched(part, rows), labels, strict=True)]
    if kind_of_rows(part, rows) == DETECTION:
        truths = [listed(label) for label in labels]
        return metrics.detection([listed(text) for text in texts], truths, species(labels), numbers(rows))
    return metrics.classification(texts, labels)


def following(part: str, rows: Sequence[Answer], vocabulary: Sequence[str]) -> dict[str, float]:
    """The variant of BEANS-Next: a fixed vocabulary, and every label that occurs counts alike (macro averages)."""
    labels = [row.label for row in rows]
    if kind_of_rows(part, rows) != DETECTION:
        known = Labels.of([*vocabulary, *labels])
        given = [classified(cleaned(row.prediction), known)[0] for row in rows]
        return metrics.classification(given, labels, average="macro")
    truths = [set(items(label)) - {NONE} for label in labels]
    known = Labels.of([NONE, *vocabulary, *(name for truth in truths for name in truth)])
    found = [{options[0] for options in detected(cleaned(row.prediction), known)} - {NONE} for row in rows]
    columns = sorted(set().union(*truths, *found))
    return metrics.detection(found, truths, columns, numbers(rows), metrics.stable_average_precision)


def numbers(rows: Sequence[Answer]) -> list[Mapping[str, float]] | None:
    """The scores of all labels, where every answer has them."""
    found = [row.scores for row in rows if row.scores is not None]
    return found if len(found) == len(rows) else None


def captions(rows: Sequence[Answer], given: Sequence[str], spice: Spice | None = None) -> dict[str, float]:
    """CIDEr-D, mean over the captions, `cider_raw_times_10` on the scale of its authors; with SPICE also SPIDEr."""
    references = [row.label for row in rows]
    raw = float(np.mean(cider_d(given, references)))
    found = {"cider": raw / 10.0, "cider_raw_times_10": raw}
    if spice is not None:
        found["spice"] = float(np.mean(spice(given, references)))
        found["spider_score"] = (found["cider"] + found["spice"]) / 2.0
    return found


def interval(part: str, rows: Sequence[Answer]) -> dict[str, list[float]]:
    """Lowest and highest of each figure over ways to break ties: what a published figure may have been."""
    random_, options = random.Random(0), matched(part, rows)

    def right(names: Sequence[str], label: str) -> str:
        return next((o for o in names if o in (label, *items(label))), names[0])

    def wrong(names: Sequence[str], label: str) -> str:
        return next((o for o in names if o not in (label, *items(label))), names[0])

    ways: list[Break] = [first]
    if any(len(names) > 1 for one in options for names in one):
        ways += [lambda names, _: names[-1], right, wrong]
        ways += [lambda names, _: random_.choice(list(names))] * DRAWS
    tried = [zero(part, rows, way, options) for way in ways]
    return {name: [min(t[name] for t in tried), max(t[name] for t in tried)] for name in tried[0]}


def tied(part: str, rows: Sequence[Answer]) -> int:
    """Answers with more than one nearest label."""
    if kind_of_rows(part, rows) == CAPTIONING:
        return 0
    return sum(any(len(names) > 1 for names in one) for one in matched(part, rows))
