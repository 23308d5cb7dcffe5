"""The figures of BEANS-Zero, under the names of its own scorer.

Classification: accuracy, precision, recall and F1 weighted by support, and "top-1", which counts a prediction that is
one of the comma-separated items of the label. Detection: macro figures over the species ("None" is no species) and
BEANS' mean average precision in float32. Source: earthspecies/beans-zero, beans and beans-next, `metrics`.
"""

import functools
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped
from sklearn.metrics import precision_recall_fscore_support

from nlm_jax.evaluate.beans_zero.torch_sort import descending
from nlm_jax.evaluate.beans_zero.torch_sum import float32_sum
from nlm_jax.evaluate.nearest_label import split_items

Truth = Int[np.ndarray, "N species"]
Scores = Float[np.ndarray, "N species"]


def classification(predictions: Sequence[str], labels: Sequence[str], average: str = "weighted") -> dict[str, float]:
    """Figures of single labels.

    Args:
      predictions: N labels.
      labels: the N correct ones.
      average: of scikit-learn, over the labels.
    """
    correct = [a == b for a, b in zip(predictions, labels, strict=True)]
    precision, recall, f1, _ = precision_recall_fscore_support(labels, predictions, average=average, zero_division=0)
    return {
        "Accuracy": float(np.mean(correct)),
        "Precision": float(precision),
        "Recall": float(recall),
        "F1 Score": float(f1),
        "Top-1 Accuracy": float(np.mean([a in split_items(b) for a, b in zip(predictions, labels, strict=True)])),
    }


def detection(
    predictions: Sequence[Collection[str]],
    labels: Sequence[Collection[str]],
    species: Sequence[str],
    scores: Sequence[Mapping[str, float]] | None = None,
) -> dict[str, float]:
    """Figures of sets of labels: macro averages over species.

    All are 0 if there is no species (the benchmark's scorer fails then).

    Args:
      predictions: N sets of names; names that are no species are ignored.
      labels: the N correct ones.
      species: those to average over.
      scores: per prediction species -> a real number, to rank by for mAP instead of 1 for a predicted species.
    """
    if not species:
        return dict.fromkeys(("mAP", "F1", "Recall", "Precision"), 0.0)
    truth, predicted = indicators(labels, species), indicators(predictions, species)
    ranking = predicted.astype(np.float64)
    if scores is not None:
        ranking = np.array([[row.get(name, -np.inf) for name in species] for row in scores], np.float64)
    # Not scikit-learn's: it reads a matrix of one column (hiceas has one species) as labels 0 and 1, and averages both.
    hits = (truth & predicted).sum(0)
    precision, recall = _ratio(hits, predicted.sum(0)), _ratio(hits, truth.sum(0))
    f1 = _ratio(2.0 * precision * recall, precision + recall)
    figures = {"F1": f1, "Recall": recall, "Precision": precision}
    return {
        "mAP": mean_average_precision(truth, ranking),
        **{name: float(value.mean()) for name, value in figures.items()},
    }


def indicators(sets: Sequence[Collection[str]], names: Sequence[str]) -> Int[np.ndarray, "N names"]:
    """1 if a set contains a name; other members are ignored."""
    columns = {name: i for i, name in enumerate(names)}
    matrix = np.zeros((len(sets), len(columns)), np.int64)
    for row, members in enumerate(sets):
        matrix[row, [columns[name] for name in members if name in columns]] = 1
    return matrix


def _ratio(part: Shaped[np.ndarray, "n"], whole: Shaped[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """part / whole, 0 if whole is 0."""
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def mean_average_precision(truth: Truth, scores: Scores) -> float:
    """Mean over species of the precision at each true positive, predictions sorted by score as torch sorts them.

    In float32 and in torch's order of summation, so that published figures are reproduced to the last digit.
    """
    values = [
        average_precision(t.tobytes(), s.astype(np.float64).tobytes())
        for t, s in zip(np.ascontiguousarray(truth.T, np.int64), scores.T, strict=True)
    ]
    return float(float32_sum(np.asarray(values, np.float32)) / np.float32(len(values)))


@functools.lru_cache(maxsize=1024)
def average_precision(truth: bytes, scores: bytes) -> np.float32:
    """Average precision of one species.

    Args are bytes, of i64[N] and f64[N], so that results are cached: another order of the labels changes few species.
    """
    return average_precisions(np.frombuffer(truth, np.int64), np.frombuffer(scores, np.float64)[None])[0]


def average_precisions(
    truth: Int[np.ndarray, "N"], scores: Float[np.ndarray, "outcomes N"]
) -> Float[np.ndarray, "outcomes"]:
    """Average precision of one species for each of several rankings, in float32.

    Args:
      truth: 1 if the species is correct.
      scores: those to rank the N predictions by.
    """
    sorted_ = truth[np.array([descending(row) for row in scores.tolist()], np.int64).reshape(scores.shape)]
    precision = np.cumsum(sorted_, axis=1, dtype=np.float32) / np.arange(1, len(truth) + 1, dtype=np.float32)
    hits = precision[sorted_ > 0].reshape(len(scores), -1)  # as many in each ranking
    return float32_sum(np.ascontiguousarray(hits.T)) / np.float32(max(int(truth.sum()), 1))


def species_figures(truth: Int[np.ndarray, "N"], outcomes: Int[np.ndarray, "outcomes N"]) -> dict[str, list[float]]:
    """The figures of `detection` for one species, for each of several outcomes.

    Args:
      truth: 1 if the species is correct.
      outcomes: 1 if it is predicted.
    """
    hits = (outcomes & truth).sum(1)
    precision, recall = _ratio(hits, outcomes.sum(1)), _ratio(hits, np.full(len(hits), truth.sum()))
    figures = {"F1": _ratio(2.0 * precision * recall, precision + recall), "Recall": recall, "Precision": precision}
    means = average_precisions(truth, outcomes.astype(np.float64))
    return {"mAP": means.astype(np.float64).tolist(), **{name: values.tolist() for name, values in figures.items()}}


def stable_map(predictions: Sequence[Collection[str]], labels: Sequence[Collection[str]]) -> float:
    """BEANS-Next's `dataset_map`: mean average precision in float64, equal scores in the order of the file.

    It averages over every label that occurs, "None" too; one that is never correct counts as 0.
    """
    names = sorted({name for members in (*predictions, *labels) for name in members})
    if not names:
        return 0.0
    values = []
    for truth, predicted in zip(indicators(labels, names).T, indicators(predictions, names).T, strict=True):
        sorted_ = truth[np.argsort(-predicted, kind="stable")]
        precision = np.cumsum(sorted_) / np.arange(1, len(truth) + 1)
        values.append(precision[sorted_ > 0].sum() / max(int(truth.sum()), 1))
    return float(np.mean(values))
