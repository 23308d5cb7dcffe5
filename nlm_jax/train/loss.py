"""Negative log-likelihood at the answer positions, as sums and weights that the caller divides once."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from nlm_jax.core.batch import Batch
from nlm_jax.nn.loss import token_nll

AT_ONCE = 128
"""Answer slots of each row whose logits exist at once: for 128257 rows of vocabulary 64 MiB a row in float32."""


def answer_scores(model, batch: Batch, key=None) -> tuple[Float[Array, "B M"], Float[Array, "B M"]]:
    """Per answer slot: negative log-likelihood and 1 where the argmax is the target, both zero in unused slots.

    Args:
      key: None evaluates; a key switches dropout and layerdrop on.
    """

    @jax.checkpoint  # the logits of a part are computed again in its backward pass: never all of them at once
    def part(xs):
        logits = model.llama.logits(xs[0])
        return token_nll(logits, xs[1]), (jnp.argmax(logits, axis=-1) == xs[1]).astype(jnp.float32)

    hidden, slots = model.answer_hidden(batch, key=key), batch.targets.shape[1]
    if slots <= AT_ONCE:
        nll, hit = part((hidden, batch.targets))
    else:
        scores = jax.lax.map(part, jax.tree.map(_split, (hidden, batch.targets)))
        nll, hit = (jnp.moveaxis(s, 0, 1).reshape(s.shape[1], -1)[:, :slots] for s in scores)
    return nll * batch.weights, hit * batch.weights


def _split(x: Shaped[Array, "B M ..."]) -> Shaped[Array, "parts B slots ..."]:
    """The answer slots in parts of `AT_ONCE`, the last one filled up with zeros."""
    parts = -(-x.shape[1] // AT_ONCE)
    x = jnp.pad(x, [(0, 0), (0, parts * AT_ONCE - x.shape[1])] + [(0, 0)] * (x.ndim - 2))
    return jnp.moveaxis(x.reshape(x.shape[0], parts, AT_ONCE, *x.shape[2:]), 1, 0)


def per_segment(values: Float[Array, "B M"], segment: Int[Array, "B M"], segments: int) -> Float[Array, "B segments"]:
    """Sums of `values` over the answer slots of each example (segment 1.. of its row)."""
    member = segment[..., None] == jnp.arange(1, segments + 1)
    return jnp.sum(jnp.where(member, values[..., None], 0.0), axis=1)
