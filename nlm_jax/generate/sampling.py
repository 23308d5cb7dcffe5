"""The next token of a row without beams: the most likely one, or one drawn at a temperature.

Source of the filters: transformers' `TemperatureLogitsWarper`, `TopKLogitsWarper`, `TopPLogitsWarper`, in this order.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nlm_jax.generate.decode_state import Rows, appended, is_end, restrained


def choose(rows: Rows, logits: Float[Array, "B 1 V"]) -> Rows:
    """One token more for every row."""
    scores, knobs = restrained(logits, rows)[:, 0], rows.knobs

    def draw(scores):
        scaled = scores - scores.max(-1, keepdims=True)  # so that the best stays finite, however cold it is
        filtered = _filtered(scaled / jnp.where(knobs.temperature > 0, knobs.temperature, 1.0)[:, None], rows)
        drawn = jnp.argmax(filtered + _noise(rows, scores.shape[-1]), axis=-1)
        return jnp.where(knobs.temperature > 0, drawn, jnp.argmax(scores, axis=-1))

    # Sorting and noise of the whole vocabulary cost more than they should where nobody asks for them.
    anyone = (knobs.temperature > 0).any()
    token = jax.lax.cond(anyone, draw, lambda scores: jnp.argmax(scores, axis=-1), scores).astype(jnp.int32)[:, None]
    longer = appended(rows, token)
    return dataclasses.replace(longer, finished=longer.finished | is_end(token, rows)[:, 0])


def top_k_top_p(scores: Float[Array, "B V"], top_k: Int[Array, "B"], top_p: Float[Array, "B"]) -> Float[Array, "B V"]:
    """-inf for all but the `top_k` best (0 = all), and of those for all but the fewest that hold `top_p` of the mass.

    Tokens that tie with the last one kept are kept too.
    """
    best = jnp.sort(scores, axis=-1, descending=True)
    kept = jnp.arange(best.shape[-1]) < jnp.where(top_k > 0, top_k, best.shape[-1])[:, None]
    last = jnp.where(kept, best, jnp.inf).min(-1, keepdims=True)  # the k-th best
    best = jnp.where(best >= last, best, -jnp.inf)
    before = jnp.cumsum(jax.nn.softmax(best, axis=-1), axis=-1) - jax.nn.softmax(best, axis=-1)
    first = jnp.arange(best.shape[-1]) == 0  # kept even if float32 rounds `top_p` to 0
    kept = ((before < top_p[:, None]) | (top_p >= 1)[:, None] | first) & jnp.isfinite(best)
    last = jnp.where(kept, best, jnp.inf).min(-1, keepdims=True)
    return jnp.where(scores >= last, scores, -jnp.inf)


def _filtered(scores, rows: Rows):
    k, p = rows.knobs.top_k, rows.knobs.top_p
    wanted = ((k > 0) | (p < 1)).any()
    return jax.lax.cond(wanted, lambda s: top_k_top_p(s, k, p), lambda s: s, scores)


def _noise(rows: Rows, vocab: int) -> Float[Array, "B V"]:
    """Gumbel noise, which makes an argmax a draw. A row's depends on its seed and on how many tokens it has alone."""
    draw = lambda seed, step: jax.random.gumbel(jax.random.fold_in(jax.random.key(seed), step), (vocab,))  # noqa: E731
    return jax.vmap(draw)(rows.knobs.seed, rows.step)
