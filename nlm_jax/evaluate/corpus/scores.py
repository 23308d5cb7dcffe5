"""Scores of held-out questions by task, next to two baselines on the same clips."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nlm_jax.audio import mel
from nlm_jax.core.errors import UserError
from nlm_jax.data.dataset import Corpus
from nlm_jax.evaluate import baselines
from nlm_jax.evaluate.accuracy import Prediction, score_by_task
from nlm_jax.evaluate.corpus.questions import HeldOutQuestion, spread
from nlm_jax.evaluate.nearest_label import LabelSet, match_label
from nlm_jax.evaluate.prediction_files import PredictionRow

MAX_TRAINING_QUESTIONS = 2000
"""Questions of each task that the baselines are fitted to, spread evenly."""


def to_predictions(rows: Sequence[PredictionRow], questions: Sequence[HeldOutQuestion]) -> list[Prediction]:
    """The predictions for the questions that have one; `path` is the index of the question."""
    texts = {row.key: row.prediction for row in rows}
    return [
        Prediction(q.part, q.label, texts[q.part, q.id], str(i), q.query)
        for i, q in enumerate(questions)
        if (q.part, q.id) in texts
    ]


def predict_baselines(
    data: Sequence[str], split: str, predictions: Sequence[Prediction], questions: Sequence[HeldOutQuestion]
) -> dict[str, list[Prediction]]:
    """Both baselines for `predictions`, fitted to every other split of the same data.

    Args:
      data: prepared directories.
      split: the held-out one.
      predictions: of the model.
      questions: those that `predictions` index.

    Returns:
      as `baselines.predict`; empty if there is no other split.
    """
    corpus = Corpus(data)
    others = corpus.subset(~np.isin(_split_names(corpus), [split]))
    if not len(others) or not questions:
        return {}
    training = [HeldOutQuestion(others, int(e), questions[0].samples) for e in spread(others, MAX_TRAINING_QUESTIONS)]
    features = _clip_features(training, questions)
    train = [Prediction(q.part, q.label, "", f"train {i}", q.query) for i, q in enumerate(training)]
    train = [p for p in train if features(p.path) is not None]
    tasks = {p.task for p in train}
    test = [p for p in predictions if p.task in tasks and features(p.path) is not None]
    return baselines.predict(train, test, features)


def _split_names(corpus: Corpus) -> np.ndarray:
    """The name of each example's split."""
    names = [np.asarray(list(part.manifest["splits"]), object)[part.index["split"]] for part in corpus.parts]
    return np.concatenate([names[k][corpus.local[corpus.part_of == k]] for k in range(len(names))])


def _clip_features(
    training: Sequence[HeldOutQuestion], questions: Sequence[HeldOutQuestion]
) -> Callable[[str], np.ndarray | None]:
    """Clip statistics by name: "train 3" is question 3 of `training`, "3" of `questions`; None if it is corrupt."""

    @functools.cache
    def features(name: str) -> np.ndarray | None:
        group, _, number = name.rpartition(" ")
        question = (training if group else questions)[int(number)]
        try:
            clips = question.waveform()
        except UserError:
            return None
        if not clips:
            return np.zeros(4 * mel.BANDS, np.float32)
        return np.mean([baselines.statistics(clip) for clip in clips], axis=0)

    return features


def task_figures(predictions: Sequence[Prediction], base: dict[str, list[Prediction]]) -> dict[str, dict[str, Any]]:
    """The figures of each task, as `metrics.json` has them.

    Args:
      predictions: of the model.
      base: of the baselines, by name.

    Returns:
      task -> counts, accuracy by exact match and by the nearest label, Wilson interval, and both baselines' accuracy.
    """
    baseline_scores = {name: score_by_task(rows) for name, rows in base.items()}
    figures = {}
    for task, s in score_by_task(predictions).items():
        members = [p for p in predictions if p.task == task]
        labels = LabelSet.of(p.expected.strip() for p in members)
        nearest = sum(match_label(p.answer, labels)[0] == p.expected.strip() for p in members)
        figures[task] = {
            "questions": s.count,
            "right": s.hits,
            "accuracy": s.accuracy,
            "interval": [s.low, s.high],
            "accuracy_by_nearest_label": nearest / s.count,
            "macro_recall": _macro_recall(members),
            "answers_given": s.distinct_answers,
            "most_frequent": [s.most_common, s.most_common_share],
            **{name: scores[task].accuracy for name, scores in baseline_scores.items() if task in scores},
        }
    return figures


def _macro_recall(predictions: Sequence[Prediction]) -> float:
    """Mean recall of the expected answers: rare classes count as much as frequent ones."""
    by_class: dict[str, list[bool]] = {}
    for p in predictions:
        by_class.setdefault(p.expected.strip(), []).append(p.correct)
    return float(np.mean([np.mean(hits) for hits in by_class.values()]))
