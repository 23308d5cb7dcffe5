"""Pseudo-random permutations and hashes, evaluated element by element: a random order without stored state."""

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
    """Pseudo-random permutations of 0..size-1, one per key: a Feistel network on a square, with cycle walking.

    Args:
      index: elements, each below its size.
      size: of the permuted range, one for all elements or one each.
      key: selects the permutation of each element.
      side: `sides(size)`, if computed before; the network permutes a square of this side, and indices that leave the
        range are permuted again until they are inside.

    Returns:
      The image of each index.
    """
    size = np.broadcast_to(np.asarray(size, np.int64), index.shape)
    side = sides(size) if side is None else side
    image, limit = index.astype(np.uint64), size.astype(np.uint64)
    outside = np.arange(len(image))
    while len(outside):
        width, subkey = side[outside], key[outside]
        left, right = np.divmod(image[outside], width)
        for r in range(ROUNDS):
            left, right = (
                right,
                (left + mix64(subkey + mix64(right * np.uint64(ROUNDS) + np.uint64(r))) % width) % width,
            )
        image[outside] = left * width + right
        outside = outside[image[outside] >= limit[outside]]
    return image.astype(np.int64)


def sides(size: Int[np.ndarray, "N"]) -> UInt64[np.ndarray, "N"]:
    """The smallest side, at least 2, of a square with at least `size` elements, for each size."""
    side = np.maximum(2, np.sqrt(size.astype(np.float64)).astype(np.int64))
    side -= (side > 2) & ((side - 1) ** 2 >= size)  # the root was rounded up
    side += side**2 < size
    return side.astype(np.uint64)
