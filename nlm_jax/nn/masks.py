"""Attention masks, True = may attend."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def packed_causal(segments: Int[Array, "B S"]) -> Bool[Array, "B S S"]:
    """Causal within each packed example: query i attends to keys j <= i of the same segment.

    Padding (segment 0) attends to padding only, so that no row of the softmax is empty.
    """
    same = segments[:, :, None] == segments[:, None, :]
    order = jnp.arange(segments.shape[1])
    return same & (order[None, :, None] >= order[None, None, :])
