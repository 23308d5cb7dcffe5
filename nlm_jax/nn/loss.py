"""The negative log-likelihood of single tokens."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def token_nll(logits: Float[Array, "B M V"], targets: Int[Array, "B M"]) -> Float[Array, "B M"]:
    """-log p(target), in float32. The appended [PAD] row takes part in the softmax, as in the reference."""
    logits = logits.astype(jnp.float32)
    target_logits = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - target_logits
