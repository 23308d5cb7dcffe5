"""From predictions to figures: both scorers, part by part, and how far ties between labels move BEANS-Zero's."""

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nlm_jax.evaluate.beans_zero import beans_next, metrics, ties
from nlm_jax.evaluate.beans_zero.cider import cider_d
from nlm_jax.evaluate.beans_zero.parts import CAPTIONING, DETECTION, NONE, Kind, kind_of
from nlm_jax.evaluate.nearest_label import (
    LabelSet,
    match_items,
    match_label,
    scored_species,
    split_detection,
    split_items,
)
from nlm_jax.evaluate.prediction_files import PredictionRow

Matches = Sequence[Sequence[tuple[str, ...]]]
"""Per prediction its items (one, unless it is a detection), each as the labels equally near to it, sorted."""
SpiceScorer = Callable[[Sequence[str], Sequence[str]], list[float]]
"""(captions, references) -> SPICE of each."""


def score_predictions(
    rows: Sequence[PredictionRow],
    vocabulary: Mapping[str, Sequence[str]] | None = None,
    spice: SpiceScorer | None = None,
) -> dict[str, Any]:
    """Scores predictions with both scorers.

    Args:
      rows: of any parts, in the order of the file (which decides mAP among equal scores).
      vocabulary: part -> labels that replace the benchmark's, for `beans_next`.
      spice: scores captions; without it their only figures are CIDEr-D.

    Returns:
      {"beans_zero": {part: figures}, "beans_next": {part: figures}, "tie_interval": {part: {figure: [low, high]}}}.
    """
    result: dict[str, Any] = {"beans_zero": {}, "beans_next": {}, "tie_interval": {}}
    for part, members in by_part(rows).items():
        kind, labels = kind_of_rows(part, members), (vocabulary or {}).get(part, ())
        result["beans_next"][part] = beans_next.figures(
            part, kind, [row.prediction for row in members], [row.label for row in members], labels
        )
        if kind == CAPTIONING:
            figures = caption_figures(members, spice)
            intervals = {name: [value, value] for name, value in figures.items()}
        else:
            matches = nearest_labels(part, members)
            figures = label_figures(part, members, matches)
            intervals = tie_intervals(part, members, matches, figures)
        result["beans_zero"][part], result["tie_interval"][part] = figures, intervals
    return result


def by_part(rows: Sequence[PredictionRow]) -> dict[str, list[PredictionRow]]:
    """Part -> its predictions, in the order of the file."""
    parts: dict[str, list[PredictionRow]] = collections.defaultdict(list)
    for row in rows:
        parts[row.dataset_name].append(row)
    return dict(parts)


def kind_of_rows(part: str, rows: Sequence[PredictionRow]) -> Kind:
    """The kind of question of a part; for an unknown part it follows from the labels."""
    return kind_of(part, {item for row in rows for item in split_items(row.label)})


def nearest_labels(part: str, rows: Sequence[PredictionRow]) -> list[tuple[tuple[str, ...], ...]]:
    """The labels nearest to each prediction, as `Matches`: among the labels of the file, of a detection also "None"."""
    if kind_of_rows(part, rows) == DETECTION:
        labels = LabelSet.of([NONE, *(row.label for row in rows)])
        return [match_items(row.prediction, labels) for row in rows]
    labels = LabelSet.of(row.label for row in rows)
    return [(match_label(row.prediction, labels),) for row in rows]


def first_labels(match: Sequence[Sequence[str]]) -> str:
    """The first of equally near labels of each item, joined: the text that the benchmark's scorer compares."""
    return ", ".join(item[0] for item in match)


def label_figures(part: str, rows: Sequence[PredictionRow], matches: Matches) -> dict[str, float]:
    """Figures of a classification or detection by the benchmark's own scorer.

    Args:
      part: of the benchmark.
      rows: its predictions.
      matches: as `nearest_labels` returns them; the first of equally near labels counts.
    """
    labels, texts = [row.label for row in rows], [first_labels(match) for match in matches]
    if kind_of_rows(part, rows) == DETECTION:
        predictions, truths = [split_detection(text) for text in texts], [split_detection(label) for label in labels]
        return metrics.detection(predictions, truths, scored_species(labels), label_scores(rows))
    return metrics.classification(texts, labels)


def tie_intervals(
    part: str, rows: Sequence[PredictionRow], matches: Matches, figures: Mapping[str, float]
) -> dict[str, list[float]]:
    """[lowest, highest] of each of `figures` over all orders of the labels, that is over all hash seeds."""
    labels = [row.label for row in rows]
    if kind_of_rows(part, rows) != DETECTION:
        intervals = ties.classification([tie for (tie,) in matches], labels)
    else:
        truths = [split_detection(label) for label in labels]
        intervals = ties.detection(matches, truths, scored_species(labels))
        if label_scores(rows) is not None:  # real numbers rank the recordings, and no tie between labels moves mAP
            intervals["mAP"] = [figures["mAP"]] * 2
    return {name: ties.with_rounding(name, intervals[name], value) for name, value in figures.items()}


def label_scores(rows: Sequence[PredictionRow]) -> list[Mapping[str, float]] | None:
    """The label scores of the predictions, if all have them."""
    scores = [row.scores for row in rows if row.scores is not None]
    return scores if len(scores) == len(rows) else None


def caption_figures(rows: Sequence[PredictionRow], spice: SpiceScorer | None = None) -> dict[str, float]:
    """Mean CIDEr-D of captions, `cider_raw_times_10` on the scale of its authors; with SPICE also SPIDEr."""
    captions, references = [row.prediction for row in rows], [row.label for row in rows]
    raw = float(np.mean(cider_d(captions, references)))
    figures = {"cider": raw / 10.0, "cider_raw_times_10": raw}
    if spice is not None:
        figures["spice"] = float(np.mean(spice(captions, references)))
        figures["spider_score"] = (figures["cider"] + figures["spice"]) / 2.0
    return figures


def count_tied(part: str, rows: Sequence[PredictionRow]) -> int:
    """Number of predictions with more than one nearest label."""
    if kind_of_rows(part, rows) == CAPTIONING:
        return 0
    return sum(any(len(tie) > 1 for tie in match) for match in nearest_labels(part, rows))
