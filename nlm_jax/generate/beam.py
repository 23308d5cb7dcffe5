"""Beam search, token for token that of transformers 4.44, which the reference decodes with.

Source: transformers 4.44 `GenerationMixin._beam_search` and `BeamSearchScorer`, with early_stopping=False. The
behaviour that decides ties and ends is preserved: a repetition penalty acts on log-probabilities; an end symbol counts
only among the first K candidates; a row is done once its worst finished answer beats what its best beam could still
reach at this length; and whichever end symbol finished an answer, the first one is written after it.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nlm_jax.generate.decode_state import Beams, DecodeConfig, DecodeState, appended, is_end, restrained
from nlm_jax.generate.options import MAX_STOP_IDS


def choose(rows: DecodeState, logits: Float[Array, "B beams V"], config: DecodeConfig) -> DecodeState:
    """One token more for every running beam; answers that end here join the finished ones."""
    now = rows.beams
    b, beams, vocab = logits.shape
    total = restrained(jax.nn.log_softmax(logits, axis=-1), rows) + now.score[:, :, None]
    # Enough candidates that `beams` of them are not end symbols, however many end symbols there are.
    count = beams * max(2, 1 + len(config.eos_ids) + MAX_STOP_IDS)
    score, flat = largest(total.reshape(b, -1), min(count, beams * vocab))
    beam, token = flat // vocab, (flat % vocab).astype(jnp.int32)
    ends = is_end(token, rows)

    worth = _length(rows, rows.step + 1)
    rank = jnp.arange(score.shape[1])
    finished = jnp.where(ends & (rank < beams), score / worth, -jnp.inf)
    ended = _keep_best(now, finished, _gather(rows.ids, beam), jnp.repeat(rows.step[:, None], rank.size, axis=1))
    full = jnp.isfinite(ended["ended_score"]).all(1)
    done = full & (ended["ended_score"].min(1) >= score[:, 0] / worth[:, 0])

    order = jnp.argsort(ends, axis=1, stable=True)[:, :beams]  # the first `beams` candidates that are no end symbols
    beam, token, score = (jnp.take_along_axis(x, order, axis=1) for x in (beam, token, score))
    parents = dataclasses.replace(
        rows, ids=_gather(rows.ids, beam), seen=_gather(rows.seen, beam), visible=_gather(rows.visible, beam)
    )
    longer = appended(parents, token)
    beams = Beams(score=score, done=done, **ended)
    return dataclasses.replace(longer, finished=longer.finished | done, beams=beams)


def best(rows: DecodeState, config: DecodeConfig) -> tuple[Int[Array, "B T"], Int[Array, "B"], Float[Array, "B"]]:
    """The best answer of every row; the running beams of a row that is not done are candidates as they are.

    Returns:
      its tokens, followed by its end symbol and padding; the number of tokens with the end symbol; its score.
    """
    now = rows.beams
    running = jnp.where(now.done[:, None], -jnp.inf, now.score / _length(rows, rows.step))
    ended = _keep_best(now, running, rows.ids, jnp.repeat(rows.step[:, None], running.shape[1], axis=1))
    ids, length = ended["ended_ids"][:, 0], ended["ended_length"][:, 0]
    at, limit = jnp.arange(ids.shape[1])[None], rows.sampling.limit
    ended_early = (length < limit)[:, None] & (at == length[:, None])
    ids = jnp.where(at < length[:, None], ids, jnp.where(ended_early, config.eos_ids[0], config.pad_id))
    return ids, length + (length < limit), ended["ended_score"][:, 0]


def largest(x: Float[Array, "B N"], k: int) -> tuple[Float[Array, "B k"], Int[Array, "B k"]]:
    """The `k` largest of each row and their indices, in `lax.top_k`'s order: of equal values the first.

    They are in the `k` blocks with the largest maxima, so that two short sorts do where `lax.top_k` sorts a whole
    vocabulary (half of a step on a CPU).
    """
    b, n = x.shape
    width = max(1, math.isqrt(n // k))
    blocks = jnp.pad(x, ((0, 0), (0, -n % width)), constant_values=-jnp.inf).reshape(b, -1, width)
    block = jnp.sort(jax.lax.top_k(blocks.max(-1), k)[1], axis=1)
    inside = _gather(blocks, block).reshape(b, -1)
    value, at = jax.lax.top_k(inside, k)
    return value, jnp.take_along_axis(block, at // width, axis=1) * width + at % width


def _length(rows: DecodeState, tokens: Int[Array, "B"]) -> Float[Array, "B 1"]:
    """The divisor of a sum of log-probabilities."""
    return (tokens.astype(jnp.float32) ** rows.sampling.length_penalty)[:, None]


def _keep_best(now: Beams, scores, ids, lengths) -> dict[str, Any]:
    """The K best of the finished answers and of new ones; of equal scores the earlier."""
    beams = now.score.shape[1]
    best, index = jax.lax.top_k(jnp.concatenate([now.ended_score, scores], axis=1), beams)
    every = jnp.concatenate([now.ended_ids, ids], axis=1)
    return {
        "ended_score": best,
        "ended_ids": _gather(every, index),
        "ended_length": jnp.take_along_axis(jnp.concatenate([now.ended_length, lengths], axis=1), index, axis=1),
    }


def _gather(x: Array, index: Int[Array, "B n"]) -> Array:
    """x[b, index[b, n], :]."""
    return jnp.take_along_axis(x, index[:, :, None], axis=1)
