"""Two honest baselines for closed questions: the majority answer, and logistic regression on log-mel statistics."""

import collections
import functools
from collections.abc import Callable, Sequence

import numpy as np
import scipy.optimize
from jaxtyping import Float, Int

from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.evaluate.score import Prediction

BANDS, N_FFT, HOP = 64, 512, 160
FLOOR = 1e-8


@functools.cache
def mel_filters(bands: int = BANDS) -> Float[np.ndarray, "bands bins"]:
    """Triangles f32[bands, N_FFT / 2 + 1], evenly spaced in mel from 20 Hz to 8 kHz."""
    mel = lambda hz: 2595.0 * np.log10(1.0 + np.asarray(hz) / 700.0)  # noqa: E731
    edges = np.linspace(mel(20.0), mel(SAMPLE_RATE / 2), bands + 2)
    bins = mel(np.arange(N_FFT // 2 + 1) * SAMPLE_RATE / N_FFT)[None]
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return np.maximum(0, np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre))).astype(np.float32)


def log_mel(wave: Float[np.ndarray, "T"]) -> Float[np.ndarray, "frames bands"]:
    """log10 mel power of a waveform at 16 kHz, one row per 10 ms; a clip shorter than a frame is padded."""
    wave = np.pad(wave, (0, max(0, N_FFT - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(wave, N_FFT)[::HOP] * np.hanning(N_FFT).astype(np.float32)
    power = np.abs(np.fft.rfft(frames)) ** 2
    return np.log10(power.astype(np.float32) @ mel_filters().T + FLOOR)


def statistics(wave: Float[np.ndarray, "T"]) -> Float[np.ndarray, "F"]:
    """Per band: mean, standard deviation, 90th percentile, standard deviation of the frame-to-frame difference."""
    mel = log_mel(wave)
    change = np.diff(mel, axis=0) if len(mel) > 1 else np.zeros_like(mel)
    return np.concatenate([mel.mean(0), mel.std(0), np.percentile(mel, 90, axis=0), change.std(0)]).astype(np.float32)


def majority(train: Sequence[str]) -> str:
    """The most frequent answer; ties go to the alphabetically first."""
    counts = collections.Counter(train)
    return min(counts, key=lambda answer: (-counts[answer], answer))


def logistic(
    x: Float[np.ndarray, "N F"], answers: Sequence[str], decay: float = 1.0, iterations: int = 200
) -> Callable[[Float[np.ndarray, "M F"]], list[str]]:
    """Multinomial logistic regression on standardised features, L2 penalty decay / 2 * |W|^2 (scikit-learn's C = 1 / decay).

    Returns:
      a function from features [M, F] to answers. It always gives the answer of a training set with one kind of it.
    """
    kinds = sorted(set(answers))
    centre, scale = x.mean(0), x.std(0) + 1e-6
    z = ((x - centre) / scale).astype(np.float64)
    y: Int[np.ndarray, "N"] = np.array([kinds.index(a) for a in answers])
    weights = np.zeros((z.shape[1] + 1, len(kinds)))

    def objective(flat):
        w = flat.reshape(weights.shape)
        logits = z @ w[:-1] + w[-1]
        logits -= logits.max(1, keepdims=True)
        p = np.exp(logits)
        p /= p.sum(1, keepdims=True)
        value = -np.log(p[np.arange(len(y)), y] + 1e-300).sum() + 0.5 * decay * np.square(w[:-1]).sum()
        p[np.arange(len(y)), y] -= 1
        return value, np.concatenate([z.T @ p + decay * w[:-1], p.sum(0)[None]]).ravel()

    if len(kinds) > 1:
        found = scipy.optimize.minimize(objective, weights.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": iterations})
        weights = found.x.reshape(weights.shape)
    return lambda new: [kinds[i] for i in np.argmax(((new - centre) / scale) @ weights[:-1] + weights[-1], axis=1)]


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
    for task in dict.fromkeys(q.task for q in test):
        known = [q for q in train if q.task == task]
        asked = [(i, q) for i, q in enumerate(test) if q.task == task]
        if not known:
            continue
        most = majority([q.expected for q in known])
        model = logistic(np.stack([features(q.path) for q in known]), [q.expected for q in known])
        guesses = model(np.stack([features(q.path) for _, q in asked]))
        for (i, q), guess in zip(asked, guesses, strict=True):
            for name, answer in (("majority", most), ("logistic", options(q, guess))):
                made[name][i] = Prediction(q.task, q.expected, answer, q.path, q.prompt)
    return {name: [by_index[i] for i in sorted(by_index)] for name, by_index in made.items()}
