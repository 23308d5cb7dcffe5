"""The sum of float32 values as torch's vectorised cascade rounds it, so that published figures can be reproduced."""

import numpy as np
from jaxtyping import Float

LANES, VECTORS = 8, 4
"""Lanes of the machine that the published figures were computed on, and vectors added side by side."""
LEVELS = 4
"""Levels of partial sums."""


def float32_sum(values: Float[np.ndarray, "N *columns"]) -> Float[np.ndarray, "*columns"] | np.float32:
    """The sum over the first axis in torch's order: 8 lanes, 4 vectors side by side, partial sums of 16 at a time."""
    columns = values.shape[1:]
    if len(values) < LANES:
        return _sum_vectors(values.reshape(-1, 1, *columns))[0]
    whole = len(values) // LANES * LANES
    total = np.zeros(columns, np.float32)
    for value in (*values[whole:], *_sum_vectors(values[:whole].reshape(-1, LANES, *columns))):
        total = total + value
    return total


def _sum_vectors(vectors: Float[np.ndarray, "n lanes *columns"]) -> Float[np.ndarray, "lanes *columns"]:
    """The sum of some vectors, by four interleaved sums."""
    grouped = len(vectors) // VECTORS
    sums = _cascade(vectors[: grouped * VECTORS].reshape(grouped, VECTORS, *vectors.shape[1:]))
    for vector in vectors[grouped * VECTORS :]:
        sums[0] += vector
    for row in range(1, VECTORS):
        sums[0] += sums[row]
    return sums[0]


def _cascade(values: Float[np.ndarray, "n rows lanes *columns"]) -> Float[np.ndarray, "rows lanes *columns"]:
    """The sum over the first axis by levels of partial sums, each of which is emptied into the next."""
    power = max(4, int(np.ceil(np.log2(max(1, len(values))))) // LEVELS)
    step, mask = 1 << power, (1 << power) - 1
    sums = np.zeros((LEVELS, *values.shape[1:]), np.float32)
    i = 0
    while i + step <= len(values):
        for _ in range(step):
            sums[0] += values[i]
            i += 1
        for level in range(1, LEVELS):
            sums[level] += sums[level - 1]
            sums[level - 1] = 0
            if i & (mask << (level * power)):
                break
    for value in values[i:]:
        sums[0] += value
    for level in range(1, LEVELS):
        sums[0] += sums[level]
    return sums[0]
