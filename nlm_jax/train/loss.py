"""Negative log-likelihood at the answer positions, as sums and weights: divided once, by whoever holds all of it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nlm_jax.core.batch import Batch


def token_nll(logits: Float[Array, "B M V"], targets: Int[Array, "B M"]) -> Float[Array, "B M"]:
    """-log p(target). The appended [PAD] row takes part in the softmax, as in the reference."""
    logits = logits.astype(jnp.float32)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - chosen


def answer_scores(model, batch: Batch, key=None) -> tuple[Float[Array, "B M"], Float[Array, "B M"]]:
    """Per answer slot: negative log-likelihood and 1 where the argmax is the target, both zero in unused slots.

    Args:
      key: None evaluates; a key switches dropout and layerdrop on.
    """
    logits = model.answer_logits(batch, key=key)
    hit = (jnp.argmax(logits, axis=-1) == batch.targets).astype(jnp.float32)
    return token_nll(logits, batch.targets) * batch.weights, hit * batch.weights


def per_segment(values: Float[Array, "B M"], segment: Int[Array, "B M"], segments: int) -> Float[Array, "B segments"]:
    """Sums of `values` over the answer slots of each example (segment 1.. of its row)."""
    member = segment[..., None] == jnp.arange(1, segments + 1)
    return jnp.sum(jnp.where(member, values[..., None], 0.0), axis=1)
