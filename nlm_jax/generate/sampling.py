"""The next token of a row without beams: the most likely one, or one drawn at a temperature.

Source of the filters: transformers' `TemperatureLogitsWarper`, `TopKLogitsWarper`, `TopPLogitsWarper`, in this order.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nlm_jax.generate.decode_state import DecodeState, appended, is_end, restrained


def choose(rows: DecodeState, logits: Float[Array, "B 1 V"]) -> DecodeState:
    """Appends a token to every row."""
    scores, sampling = restrained(logits, rows)[:, 0], rows.sampling

    def draw(scores):
        scaled = scores - scores.max(-1, keepdims=True)  # so that the best stays finite at any temperature
        filtered = _filtered(scaled / jnp.where(sampling.temperature > 0, sampling.temperature, 1.0)[:, None], rows)
        drawn = jnp.argmax(filtered + _noise(rows, scores.shape[-1]), axis=-1)
        return jnp.where(sampling.temperature > 0, drawn, jnp.argmax(scores, axis=-1))

    # Sorting and noise over the whole vocabulary are expensive: skipped if no row samples.
    any_sampled = (sampling.temperature > 0).any()
    token = jax.lax.cond(any_sampled, draw, lambda scores: jnp.argmax(scores, axis=-1), scores).astype(jnp.int32)[
        :, None
    ]
    longer = appended(rows, token)
    return dataclasses.replace(longer, finished=longer.finished | is_end(token, rows)[:, 0])


def top_k_top_p(scores: Float[Array, "B V"], top_k: Int[Array, "B"], top_p: Float[Array, "B"]) -> Float[Array, "B V"]:
    """-inf for all but the `top_k` best (0 = all), and of those for all but the fewest that hold `top_p` of the mass.

    Tokens with the same score as the last one within these bounds are within them too.
    """
    best = jnp.sort(scores, axis=-1, descending=True)
    inside = jnp.arange(best.shape[-1]) < jnp.where(top_k > 0, top_k, best.shape[-1])[:, None]
    last = jnp.where(inside, best, jnp.inf).min(-1, keepdims=True)  # the k-th best
    best = jnp.where(best >= last, best, -jnp.inf)
    before = jnp.cumsum(jax.nn.softmax(best, axis=-1), axis=-1) - jax.nn.softmax(best, axis=-1)
    first = jnp.arange(best.shape[-1]) == 0  # even if float32 rounds `top_p` to 0
    inside = ((before < top_p[:, None]) | (top_p >= 1)[:, None] | first) & jnp.isfinite(best)
    last = jnp.where(inside, best, jnp.inf).min(-1, keepdims=True)
    return jnp.where(scores >= last, scores, -jnp.inf)


def _filtered(scores, rows: DecodeState):
    k, p = rows.sampling.top_k, rows.sampling.top_p
    any_filtered = ((k > 0) | (p < 1)).any()
    return jax.lax.cond(any_filtered, lambda s: top_k_top_p(s, k, p), lambda s: s, scores)


def _noise(rows: DecodeState, vocab: int) -> Float[Array, "B V"]:
    """Gumbel noise, which turns an argmax into a draw. It depends on the row's seed and number of tokens only."""
    draw = lambda seed, step: jax.random.gumbel(jax.random.fold_in(jax.random.key(seed), step), (vocab,))  # noqa: E731
    return jax.vmap(draw)(rows.sampling.seed, rows.step)
