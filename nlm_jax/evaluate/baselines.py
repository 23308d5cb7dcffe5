"""Two baselines for closed questions: the majority answer, and logistic regression on log-mel statistics."""

import collections
import concurrent.futures
import os
from collections.abc import Callable, Sequence

import numpy as np
import threadpoolctl
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nlm_jax.audio.mel import log_mel
from nlm_jax.evaluate.accuracy import Prediction


def statistics(wave: Float[np.ndarray, "T"]) -> Float[np.ndarray, "F"]:
    """Features of a clip from its log-mel spectrogram.

    Args:
      wave: samples in [-1, 1] at 16 kHz.

    Returns:
      f32[4 * bands]: per band the mean, standard deviation, 90th percentile, and the standard deviation of the
      frame-to-frame difference.
    """
    mel = log_mel(wave)
    change = np.diff(mel, axis=0) if len(mel) > 1 else np.zeros_like(mel)
    return np.concatenate([mel.mean(0), mel.std(0), np.percentile(mel, 90, axis=0), change.std(0)]).astype(np.float32)


def majority(train: Sequence[str]) -> str:
    """The most frequent answer; the alphabetically first of equally frequent ones."""
    counts = collections.Counter(train)
    return min(counts, key=lambda answer: (-counts[answer], answer))


def logistic(x: Float[np.ndarray, "N F"], answers: Sequence[str]) -> Callable[[Float[np.ndarray, "M F"]], list[str]]:
    """Fits a multinomial logistic regression (C = 1) on standardised features.

    Args:
      x: features of the training clips.
      answers: their N correct answers.

    Returns:
      a function from features f32[M, F] to M answers; constant if the training answers are all equal.
    """
    if len(set(answers)) == 1:
        return lambda new: [answers[0]] * len(new)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(x, list(answers))
    return lambda new: [str(answer) for answer in model.predict(new)]


def predict(
    train: Sequence[Prediction],
    test: Sequence[Prediction],
    features: Callable[[str], np.ndarray],
    restrict: Callable[[Prediction, str], str] = lambda question, answer: answer,
) -> dict[str, list[Prediction]]:
    """Answers the questions of `test` with both baselines, which are fitted to each task separately.

    Args:
      train: questions with their correct answers (`answer` is not used).
      test: the same, of the other split; those of a task without training questions get no prediction.
      features: path -> statistics of that clip.
      restrict: (question, answer) -> an answer that the question allows (a detection question may list species).

    Returns:
      {"majority": predictions, "logistic": predictions}, each in the order of `test`.
    """
    predictions: dict[str, dict[int, Prediction]] = {"majority": {}, "logistic": {}}

    def fit(task: str) -> None:
        training = [q for q in train if q.task == task]
        questions = [(i, q) for i, q in enumerate(test) if q.task == task]
        if not training:
            return
        most_frequent = majority([q.expected for q in training])
        model = logistic(np.stack([features(q.path) for q in training]), [q.expected for q in training])
        answers = model(np.stack([features(q.path) for _, q in questions]))
        for (i, q), answer in zip(questions, answers, strict=True):
            for name, text in (("majority", most_frequent), ("logistic", restrict(q, answer))):
                predictions[name][i] = Prediction(q.task, q.expected, text, q.path, q.prompt)

    # Small products: BLAS threads that wait for each other take ten times as long on a busy machine. Instead each core
    # fits a task of its own; most of a fit is in BLAS, which releases the GIL.
    with threadpoolctl.threadpool_limits(1), concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(fit, dict.fromkeys(q.task for q in test)))
    return {name: [by_index[i] for i in sorted(by_index)] for name, by_index in predictions.items()}
