"""Pseudo-random permutations and hashes, element by element: what order without stored state is made of."""

import numpy as np
from jaxtyping import Int, UInt64

ROUNDS = 8


def mix64(x: UInt64[np.ndarray, "..."]) -> UInt64[np.ndarray, "..."]:
    """A 64-bit hash (the finaliser of SplitMix64), element by element."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def permute(
    index: Int[np.ndarray, "N"],
    size: int | Int[np.ndarray, "N"],
    key: UInt64[np.ndarray, "N"],
    side: UInt64[np.ndarray, "N"] | None = None,
) -> Int[np.ndarray, "N"]:
    """Where a pseudo-random permutation of 0..size-1, one per key, sends each index. `side` is `sides(size)`.

    A Feistel network on the smallest square that holds `size`; what falls outside walks on until it is inside.
    """
    size = np.broadcast_to(np.asarray(size, np.int64), index.shape)
    side = sides(size) if side is None else side
    out, limit = index.astype(np.uint64), size.astype(np.uint64)
    walking = np.arange(len(out))
    while len(walking):
        edge, lock = side[walking], key[walking]
        left, right = np.divmod(out[walking], edge)
        for r in range(ROUNDS):
            left, right = (
                right,
                (left + mix64(lock + mix64(right * np.uint64(ROUNDS) + np.uint64(r))) % edge) % edge,
            )
        out[walking] = left * edge + right
        walking = walking[out[walking] >= limit[walking]]
    return out.astype(np.int64)


def sides(size: Int[np.ndarray, "N"]) -> UInt64[np.ndarray, "N"]:
    """Smallest side, at least 2, of a square that holds each size."""
    side = np.maximum(2, np.sqrt(size.astype(np.float64)).astype(np.int64))
    side -= (side > 2) & ((side - 1) ** 2 >= size)  # the root was rounded up
    side += side**2 < size
    return side.astype(np.uint64)
