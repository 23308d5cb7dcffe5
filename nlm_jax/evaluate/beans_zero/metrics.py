"""The figures of BEANS-Zero, under the names its own scorer gives them.

Classification: accuracy, precision, recall and F1 weighted by support, and "top-1", which is right where the answer is
one of the comma-separated parts of the label. Detection: macro figures over the species ("None" is no species) and
BEANS' mean average precision in float32. Source: earthspecies/beans-zero and earthspecies/beans, `metrics.py`.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics import precision_recall_fscore_support

from nlm_jax.evaluate.beans_zero.match import NONE, items
from nlm_jax.evaluate.beans_zero.order import descending

VECTOR, ROWS = 8, 4
"""Lanes of the machine the published float32 figures were summed on, and vectors added side by side."""


def classification(answers: Sequence[str], labels: Sequence[str], average: str = "weighted") -> dict[str, float]:
    """Figures of single labels; `answers` are labels already."""
    right = [a == b for a, b in zip(answers, labels, strict=True)]
    precision, recall, f1, _ = precision_recall_fscore_support(labels, answers, average=average, zero_division=0)
    return {
        "Accuracy": float(np.mean(right)),
        "Precision": float(precision),
        "Recall": float(recall),
        "F1 Score": float(f1),
        "Top-1 Accuracy": float(np.mean([a in items(b) for a, b in zip(answers, labels, strict=True)])),
    }


def detection(answers: Sequence[Sequence[str]], labels: Sequence[str], species: Sequence[str]) -> dict[str, float]:
    """Figures of sets of labels over `species`, in which "None" does not count."""
    columns = {name: i for i, name in enumerate(sorted(set(species) - {NONE}))}
    truth, given = (np.zeros((len(labels), len(columns)), np.int64) for _ in range(2))
    for row, (answer, label) in enumerate(zip(answers, labels, strict=True)):
        for name in items(label):
            if name in columns:
                truth[row, columns[name]] = 1
        for name in answer:
            if name in columns:
                given[row, columns[name]] = 1
    precision, recall, f1, _ = precision_recall_fscore_support(truth, given, average="macro", zero_division=0)
    mean = mean_average_precision(truth, given)
    return {"mAP": mean, "F1": float(f1), "Recall": float(recall), "Precision": float(precision)}


def mean_average_precision(truth: Int[np.ndarray, "N species"], given: Int[np.ndarray, "N species"]) -> float:
    """Mean over species of the precision at each true positive, answers sorted by score as torch sorts them.

    In float32 and in torch's order of summation, so that published figures come out to the last digit.
    """
    if not truth.size:
        return 0.0
    ranks, found = np.arange(1, len(truth) + 1, dtype=np.float32), []
    for wanted, scores in zip(truth.T, given.T, strict=True):
        sorted_ = wanted[descending(scores.tolist())]
        precision = np.cumsum(sorted_, dtype=np.float32) / ranks
        found.append(float32_sum(precision[sorted_ > 0]) / np.float32(max(int(wanted.sum()), 1)))
    return float(float32_sum(np.asarray(found, np.float32)) / np.float32(len(found)))


def float32_sum(values: Float[np.ndarray, "N"]) -> np.float32:
    """The sum as torch's vectorised cascade gives it: 8 lanes, 4 vectors side by side, partial sums of 16 at a time."""
    if len(values) < VECTOR:
        return row_sum(values.reshape(-1, 1))[0]
    whole = len(values) // VECTOR * VECTOR
    total = np.float32(0)
    for value in (*values[whole:], *row_sum(values[:whole].reshape(-1, VECTOR))):
        total += value
    return total


def row_sum(vectors: Float[np.ndarray, "n lanes"]) -> Float[np.ndarray, "lanes"]:
    """Sum of the vectors, four interleaved sums first."""
    grouped = len(vectors) // ROWS
    sums = cascade(vectors[: grouped * ROWS].reshape(grouped, ROWS, vectors.shape[1]))
    for vector in vectors[grouped * ROWS :]:
        sums[0] += vector
    for row in range(1, ROWS):
        sums[0] += sums[row]
    return sums[0]


def cascade(values: Float[np.ndarray, "n rows lanes"]) -> Float[np.ndarray, "rows lanes"]:
    """Sum over the first axis in four levels, each taking over what the one below has gathered."""
    levels = 4
    power = max(4, int(np.ceil(np.log2(max(1, len(values))))) // levels)
    step, mask = 1 << power, (1 << power) - 1
    sums = np.zeros((levels, *values.shape[1:]), np.float32)
    i = 0
    while i + step <= len(values):
        for _ in range(step):
            sums[0] += values[i]
            i += 1
        for level in range(1, levels):
            sums[level] += sums[level - 1]
            sums[level - 1] = 0
            if i & (mask << (level * power)):
                break
    for value in values[i:]:
        sums[0] += value
    for level in range(1, levels):
        sums[0] += sums[level]
    return sums[0]
