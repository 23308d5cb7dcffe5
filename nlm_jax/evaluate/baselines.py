"""Two honest baselines for closed questions: the majority answer, and logistic regression on log-mel statistics."""

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
    """Per band: mean, standard deviation, 90th percentile, standard deviation of the frame-to-frame difference."""
    mel = log_mel(wave)
    change = np.diff(mel, axis=0) if len(mel) > 1 else np.zeros_like(mel)
    return np.concatenate([mel.mean(0), mel.std(0), np.percentile(mel, 90, axis=0), change.std(0)]).astype(np.float32)


def majority(train: Sequence[str]) -> str:
    """The most frequent answer; ties go to the alphabetically first."""
    counts = collections.Counter(train)
    return min(counts, key=lambda answer: (-counts[answer], answer))


def logistic(x: Float[np.ndarray, "N F"], answers: Sequence[str]) -> Callable[[Float[np.ndarray, "M F"]], list[str]]:
    """Multinomial logistic regression (C = 1) on standardised features.

    Returns:
      a function from features [M, F] to answers. It always gives the answer of a training set with one kind of it.
    """
    if len(set(answers)) == 1:
        return lambda new: [answers[0]] * len(new)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(x, list(answers))
    return lambda new: [str(answer) for answer in model.predict(new)]


def predict(
    train: Sequence[Prediction],
    test: Sequence[Prediction],
    features: Callable[[str], np.ndarray],
    options: Callable[[Prediction, str], str] = lambda question, answer: answer,
) -> dict[str, list[Prediction]]:
    """Both baselines on the questions of `test`, task by task: name -> predictions in the order of `test`.

    Args:
      train: questions with their right answers (`answer` is not looked at).
      test: the same for the other split.
      features: path -> statistics of that clip.
      options: mends an answer that a question does not offer (a detection question with a list of species).
    """
    made: dict[str, dict[int, Prediction]] = {"majority": {}, "logistic": {}}
    # Small products: BLAS threads that wait for each other take ten times as long where something else runs.
    with threadpoolctl.threadpool_limits(1):
        _fill(made, train, test, features, options)
    return {name: [by_index[i] for i in sorted(by_index)] for name, by_index in made.items()}


def _fill(made: dict[str, dict[int, Prediction]], train, test, features, options) -> None:
    def fit(task: str) -> None:
        known = [q for q in train if q.task == task]
        asked = [(i, q) for i, q in enumerate(test) if q.task == task]
        if not known:
            return
        most = majority([q.expected for q in known])
        model = logistic(np.stack([features(q.path) for q in known]), [q.expected for q in known])
        guesses = model(np.stack([features(q.path) for _, q in asked]))
        for (i, q), guess in zip(asked, guesses, strict=True):
            for name, answer in (("majority", most), ("logistic", options(q, guess))):
                made[name][i] = Prediction(q.task, q.expected, answer, q.path, q.prompt)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:  # a task a core: most of a fit is in BLAS
        list(pool.map(fit, dict.fromkeys(q.task for q in test)))
