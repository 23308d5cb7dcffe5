"""The figures of BEANS-Zero, under the names its own scorer gives them.

Classification: accuracy, precision, recall and F1 weighted by support, and "top-1", which is right where the answer is
one of the comma-separated parts of the label. Detection: macro figures over the species ("None" is no species) and
BEANS' mean average precision in float32. Source: earthspecies/beans-zero, beans and beans-next, `metrics`.
"""

import functools
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics import precision_recall_fscore_support

from nlm_jax.evaluate.beans_zero.torch_sort import descending
from nlm_jax.evaluate.nearest_label import items

VECTOR, ROWS = 8, 4
"""Lanes of the machine the published float32 figures were summed on, and vectors added side by side."""
Truth = Int[np.ndarray, "N species"]
Scores = Float[np.ndarray, "N species"]


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


def mean_average_precision(truth: Truth, scores: Scores) -> float:
    """Mean over species of the precision at each true positive, answers sorted by score as torch sorts them.

    In float32 and in torch's order of summation, so that published figures come out to the last digit.
    """
    found = [
        average_precision(wanted.tobytes(), given.astype(np.float64).tobytes())
        for wanted, given in zip(np.ascontiguousarray(truth.T, np.int64), scores.T, strict=True)
    ]
    return float(float32_sum(np.asarray(found, np.float32)) / np.float32(len(found)))


@functools.lru_cache(maxsize=1024)
def average_precision(truth: bytes, scores: bytes) -> np.float32:
    """Of one species, from the bytes of i64[N] and f64[N]: breaking ties another way changes few species of many."""
    wanted, given = np.frombuffer(truth, np.int64), np.frombuffer(scores, np.float64)
    sorted_ = wanted[descending(given.tolist())]
    precision = np.cumsum(sorted_, dtype=np.float32) / np.arange(1, len(wanted) + 1, dtype=np.float32)
    return float32_sum(precision[sorted_ > 0]) / np.float32(max(int(wanted.sum()), 1))


def stable_map(answers: Sequence[Collection[str]], truths: Sequence[Collection[str]]) -> float:
    """BEANS-Next's `dataset_map`, in float64 and with equals in the order of the file.

    Over every label that occurs, "None" too; one that is never right counts as 0.
    """
    columns = {name: i for i, name in enumerate(sorted({name for names in (*answers, *truths) for name in names}))}
    if not columns:
        return 0.0
    truth, given = (np.zeros((len(truths), len(columns)), np.int64) for _ in range(2))
    for filled, sets in ((truth, truths), (given, answers)):
        for row, names in enumerate(sets):
            filled[row, [columns[name] for name in names]] = 1
    found = []
    for wanted, named in zip(truth.T, given.T, strict=True):
        sorted_ = wanted[np.argsort(-named, kind="stable")]
        precision = np.cumsum(sorted_) / np.arange(1, len(truth) + 1)
        found.append(precision[sorted_ > 0].sum() / max(int(wanted.sum()), 1))
    return float(np.mean(found))


def detection(
    answers: Sequence[Collection[str]],
    truths: Sequence[Collection[str]],
    species: Sequence[str],
    scores: Sequence[Mapping[str, float]] | None = None,
) -> dict[str, float]:
    """Figures of sets of labels over `species`, each once; names that are none of them do not count.

    All are 0 where there is no species at all (the benchmark's scorer stops there).

    Args:
      scores: per answer species -> a real number for mAP, in the place of 1 for a species that was named.
    """
    columns = {name: i for i, name in enumerate(species)}
    if not columns:
        return dict.fromkeys(("mAP", "F1", "Recall", "Precision"), 0.0)
    truth, given = (np.zeros((len(truths), len(columns)), np.int64) for _ in range(2))
    for filled, sets in ((truth, truths), (given, answers)):
        for row, names in enumerate(sets):
            filled[row, [columns[name] for name in names if name in columns]] = 1
    graded = given.astype(np.float64)
    if scores is not None:
        graded = np.array([[one.get(name, -np.inf) for name in species] for one in scores], np.float64)
    # Not scikit-learn's: it reads a matrix of one column (hiceas has one species) as labels 0 and 1, and averages both.
    hits = (truth & given).sum(0)
    precision, recall = share(hits, given.sum(0)), share(hits, truth.sum(0))
    f1 = share(2.0 * precision * recall, precision + recall)
    figures = {"F1": f1, "Recall": recall, "Precision": precision}
    return {
        "mAP": mean_average_precision(truth, graded),
        **{name: float(value.mean()) for name, value in figures.items()},
    }


def detection_column(truth: np.ndarray, given: np.ndarray) -> dict[str, float]:
    """The figures of `detection` for one species, from where it is right and where it was named, i64[N] each."""
    hits, named, total = int((truth & given).sum()), int(given.sum()), int(truth.sum())
    precision, recall = hits / named if named else 0.0, hits / total if total else 0.0
    f1 = 2.0 * precision * recall / (precision + recall) if hits else 0.0
    mean = float(average_precision(truth.tobytes(), given.astype(np.float64).tobytes()))
    return {"mAP": mean, "F1": f1, "Recall": recall, "Precision": precision}


def share(part: np.ndarray, whole: np.ndarray) -> Float[np.ndarray, "species"]:
    """part / whole, 0 where there is no whole."""
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


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
