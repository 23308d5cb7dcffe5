"""Grouped-query attention with a boolean mask."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from nlm_jax.core.precision import matmul_precision

MASKED = -1e30
"""Finite, so that a row with nothing to attend to stays finite instead of NaN."""


def attend(
    q: Float[Array, "B S N H"],
    k: Float[Array, "B Sk K H"],
    v: Float[Array, "B Sk K H"],
    mask: Bool[Array, "B S Sk"],
) -> Float[Array, "B S N H"]:
    """softmax(q k / sqrt(H)) v; each key head serves N / K query heads. Softmax in float32.

    Plain einsums, valid on every device. Source: transformers' eager Llama attention.
    """
    (b, s, n, h), kv = q.shape, k.shape[2]
    precision = matmul_precision(q.dtype)
    grouped = q.reshape(b, s, kv, n // kv, h)
    scores = jnp.einsum("BSKGH,BTKH->BKGST", grouped, k, precision=precision, preferred_element_type=jnp.float32)
    scores = jnp.where(mask[:, None, None], scores * h**-0.5, MASKED)
    probs = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("BKGST,BTKH->BSKGH", probs, v, precision=precision).reshape(b, s, n, h)
