"""Beam search, token for token that of transformers 4.44, which the reference decodes with.

Source: transformers 4.44 `GenerationMixin._beam_search` and `BeamSearchScorer`, with early_stopping=False. Its habits
that decide ties and ends are kept: a repetition penalty acts on log-probabilities; an end symbol counts only among the
first K candidates; a row is done once its worst finished answer beats what its best beam could still reach at this
length; and whichever end symbol finished an answer, the first one is written behind it.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nlm_jax.generate.decode_state import Beams, Decoding, Rows, appended, is_end, restrained
from nlm_jax.generate.options import MAX_STOP_IDS


def choose(rows: Rows, logits: Float[Array, "B beams V"], how: Decoding) -> Rows:
    """One token more for every running beam; answers that end here join the finished ones."""
    now = rows.beams
    b, beams, vocab = logits.shape
    total = restrained(jax.nn.log_softmax(logits, axis=-1), rows) + now.score[:, :, None]
    # Enough candidates that `beams` of them go on, however many end symbols there are.
    count = beams * max(2, 1 + len(how.eos_ids) + MAX_STOP_IDS)
    score, flat = largest(total.reshape(b, -1), min(count, beams * vocab))
    beam, token = flat // vocab, (flat % vocab).astype(jnp.int32)
    ends = is_end(token, rows)

    worth = _length(rows, rows.step + 1)
    rank = jnp.arange(score.shape[1])
    finished = jnp.where(ends & (rank < beams), score / worth, -jnp.inf)
    ended = _keep_best(now, finished, _taken(rows.ids, beam), jnp.repeat(rows.step[:, None], rank.size, axis=1))
    full = jnp.isfinite(ended["ended_score"]).all(1)
    done = full & (ended["ended_score"].min(1) >= score[:, 0] / worth[:, 0])

    order = jnp.argsort(ends, axis=1, stable=True)[:, :beams]  # the first `beams` candidates that go on
    beam, token, score = (jnp.take_along_axis(x, order, axis=1) for x in (beam, token, score))
    parents = dataclasses.replace(
        rows, ids=_taken(rows.ids, beam), seen=_taken(rows.seen, beam), visible=_taken(rows.visible, beam)
    )
    longer = appended(parents, token)
    made = Beams(score=score, done=done, **ended)
    return dataclasses.replace(longer, finished=longer.finished | done, beams=made)


def best(rows: Rows, how: Decoding) -> tuple[Int[Array, "B room"], Int[Array, "B"], Float[Array, "B"]]:
    """The best answer of every row with its end symbol and padding behind it, how many tokens it has, and its score.

    The running beams of a row that is not done take part as they are.
    """
    now = rows.beams
    running = jnp.where(now.done[:, None], -jnp.inf, now.score / _length(rows, rows.step))
    ended = _keep_best(now, running, rows.ids, jnp.repeat(rows.step[:, None], running.shape[1], axis=1))
    ids, length = ended["ended_ids"][:, 0], ended["ended_length"][:, 0]
    at, limit = jnp.arange(ids.shape[1])[None], rows.knobs.limit
    ended_early = (length < limit)[:, None] & (at == length[:, None])
    ids = jnp.where(at < length[:, None], ids, jnp.where(ended_early, how.eos_ids[0], how.pad_id))
    return ids, length + (length < limit), ended["ended_score"][:, 0]


def largest(x: Float[Array, "B N"], k: int) -> tuple[Float[Array, "B k"], Int[Array, "B k"]]:
    """The `k` largest of each row and where they are, in `lax.top_k`'s order: of equals the first.

    They lie in the `k` blocks with the largest maxima, so that two short sorts do where `lax.top_k` sorts a whole
    vocabulary (half of a step on a CPU).
    """
    b, n = x.shape
    width = max(1, math.isqrt(n // k))
    blocks = jnp.pad(x, ((0, 0), (0, -n % width)), constant_values=-jnp.inf).reshape(b, -1, width)
    block = jnp.sort(jax.lax.top_k(blocks.max(-1), k)[1], axis=1)
    inside = _taken(blocks, block).reshape(b, -1)
    value, at = jax.lax.top_k(inside, k)
    return value, jnp.take_along_axis(block, at // width, axis=1) * width + at % width


def _length(rows: Rows, tokens: Int[Array, "B"]) -> Float[Array, "B 1"]:
    """What a sum of log-probabilities is divided by."""
    return (tokens.astype(jnp.float32) ** rows.knobs.length_penalty)[:, None]


def _keep_best(now: Beams, scores, ids, lengths) -> dict[str, Any]:
    """The K best of the finished answers and of new ones; of equals the earlier."""
    beams = now.score.shape[1]
    best, index = jax.lax.top_k(jnp.concatenate([now.ended_score, scores], axis=1), beams)
    every = jnp.concatenate([now.ended_ids, ids], axis=1)
    return {
        "ended_score": best,
        "ended_ids": _taken(every, index),
        "ended_length": jnp.take_along_axis(jnp.concatenate([now.ended_length, lengths], axis=1), index, axis=1),
    }


def _taken(x: Array, index: Int[Array, "B n"]) -> Array:
    """x[b, index[b, n], :]."""
    return jnp.take_along_axis(x, index[:, :, None], axis=1)
