"""Beam search in one compiled loop, token for token that of transformers 4.44, which the reference decodes with.

Source: transformers 4.44 `GenerationMixin._beam_search` and `BeamSearchScorer`, with early_stopping=False. Its habits
that decide ties and ends are kept: a repetition penalty acts on log-probabilities; an end symbol counts only among the
first K candidates; a row is done once its worst finished answer beats what its best beam could still reach at this
length; and whichever end symbol finished an answer, the first one is written behind it.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from nlm_jax.core.batch import Batch
from nlm_jax.generate.decode import Decoding, Knobs, extend, penalized, prefill
from nlm_jax.nn.cache import KVCache

NEVER = -1e9
"""Score of the beams that start out empty, so that the first step takes all its candidates from the first beam."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("step", "ids", "score", "ended_ids", "ended_length", "ended_score", "done", "seen", "cache"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class _Beams:
    step: Int[Array, ""]
    """Tokens every running beam has."""
    ids: Int[Array, "B K slots"]
    score: Float[Array, "B K"]
    """Sum of log-probabilities."""
    ended_ids: Int[Array, "B K slots"]
    """The K best finished answers, without their end symbol."""
    ended_length: Int[Array, "B K"]
    ended_score: Float[Array, "B K"]
    """Sum over (length ** penalty), the end symbol counted; -inf where there is none yet."""
    done: Bool[Array, "B"]
    seen: Bool[Array, "B K V"]
    cache: KVCache


@functools.partial(jax.jit, static_argnames=("graphdef", "how", "beams"))
def beam_search(
    graphdef, state, batch: Batch, knobs: Knobs, length_penalty, *, how: Decoding, beams: int
) -> tuple[Int[Array, "B slots"], Int[Array, "B"], Float[Array, "B"]]:
    """The best of `beams` beams of every row.

    Args:
      graphdef, state, batch, knobs, how: as for `decode.greedy`.
      length_penalty: exponent of the length a score is divided by; above 0 favours long answers.

    Returns:
      i32[B, slots] answers with their end symbol and `pad_id` behind it, i32[B] their lengths, f32[B] their scores.
    """
    model = nnx.merge(graphdef, state)
    prompt = (batch.segments > 0).sum(1)
    logits, cache = prefill(model, batch, how.slots)
    rows, vocab = logits.shape
    ids = jnp.full((rows, beams, how.slots), how.pad_id, jnp.int32)
    start = _Beams(
        step=jnp.zeros((), jnp.int32),
        ids=ids,
        score=jnp.full((rows, beams), NEVER).at[:, 0].set(0.0),
        ended_ids=ids,
        ended_length=jnp.zeros((rows, beams), jnp.int32),
        ended_score=jnp.full((rows, beams), -jnp.inf),
        done=prompt == 0,
        seen=jnp.zeros((rows, beams, vocab), bool),
        cache=_of_beams(cache, jnp.repeat(jnp.arange(rows), beams)),
    )
    choose = functools.partial(_choose, how=how, knobs=knobs, length_penalty=length_penalty)

    def body(now: _Beams) -> _Beams:
        last = jax.lax.dynamic_slice_in_dim(now.ids, now.step - 1, 1, axis=2)[:, :, 0].reshape(-1)
        positions = jnp.repeat(prompt, beams) + now.step - 1
        logits, cache = extend(model, last, positions, now.cache)
        return choose(dataclasses.replace(now, cache=cache), logits.reshape(rows, beams, vocab))

    def going(now: _Beams):
        stopped = now.ids[0, 0, now.step - 1] == knobs.stop_id
        return (now.step < knobs.limit) & ~now.done.all() & ~stopped

    first = choose(start, jnp.repeat(logits[:, None], beams, axis=1))
    return _best(jax.lax.while_loop(going, body, first), how, knobs, length_penalty)


def _choose(now: _Beams, logits: Float[Array, "B K V"], *, how: Decoding, knobs: Knobs, length_penalty) -> _Beams:
    """One token more for every running beam; answers that end here join the finished ones."""
    rows, beams, vocab = logits.shape
    logprob = penalized(jax.nn.log_softmax(logits, axis=-1), now.seen, knobs.repetition_penalty)
    total = (logprob + now.score[:, :, None]).reshape(rows, -1)
    # Enough candidates that `beams` of them go on, however many end symbols there are.
    score, flat = jax.lax.top_k(total, beams * max(2, 1 + len(how.eos_ids)))
    beam, token = flat // vocab, (flat % vocab).astype(jnp.int32)
    ends = jnp.isin(token, jnp.asarray(how.eos_ids))

    rank = jnp.arange(score.shape[1])
    length = (now.step + 1).astype(jnp.float32)
    finished = jnp.where(ends & (rank < beams), score / length**length_penalty, -jnp.inf)
    candidate_ids = jnp.take_along_axis(now.ids, beam[:, :, None], axis=1)
    lengths = jnp.broadcast_to(now.step, finished.shape)
    ended = _keep_best(now, finished, candidate_ids, lengths)
    full = jnp.isfinite(ended["ended_score"]).all(1)
    reachable = score[:, 0] / length**length_penalty
    done = now.done | (full & (ended["ended_score"].min(1) >= reachable))
    ended = {name: _where_rows(now.done, getattr(now, name), new) for name, new in ended.items()}

    order = jnp.argsort(ends, axis=1, stable=True)[:, :beams]  # the first `beams` candidates that go on
    beam, token, score = (jnp.take_along_axis(x, order, axis=1) for x in (beam, token, score))
    ids = jnp.take_along_axis(now.ids, beam[:, :, None], axis=1)
    ids = jax.lax.dynamic_update_slice(ids, token[:, :, None], (0, 0, now.step))
    seen = jnp.take_along_axis(now.seen, beam[:, :, None], axis=1)
    seen = seen | jax.nn.one_hot(token, vocab, dtype=bool)
    source = (jnp.arange(rows)[:, None] * beams + beam).reshape(-1)
    cache = _of_beams(now.cache, source)
    return _Beams(now.step + 1, ids, score, done=done, seen=seen, cache=cache, **ended)


def _keep_best(now: _Beams, scores, ids, lengths) -> dict[str, Any]:
    """The K best of the finished answers and of new ones; of equals the earlier."""
    beams = now.score.shape[1]
    best, index = jax.lax.top_k(jnp.concatenate([now.ended_score, scores], axis=1), beams)
    every = jnp.concatenate([now.ended_ids, ids], axis=1)
    return {
        "ended_score": best,
        "ended_ids": jnp.take_along_axis(every, index[:, :, None], axis=1),
        "ended_length": jnp.take_along_axis(jnp.concatenate([now.ended_length, lengths], axis=1), index, axis=1),
    }


def _best(now: _Beams, how: Decoding, knobs: Knobs, length_penalty):
    """Rows that are not done enter their running beams as they are; then the best answer, its end symbol behind it."""
    running = now.score / now.step.astype(jnp.float32) ** length_penalty
    running = jnp.where(now.done[:, None], -jnp.inf, running)
    lengths = jnp.broadcast_to(now.step, running.shape)
    ended = _keep_best(now, running, now.ids, lengths)
    ids, length, score = ended["ended_ids"][:, 0], ended["ended_length"][:, 0], ended["ended_score"][:, 0]
    at, slots = jnp.arange(ids.shape[1])[None], length[:, None]
    ended_early = (slots < knobs.limit) & (at == slots)
    ids = jnp.where(at < slots, ids, jnp.where(ended_early, how.eos_ids[0], how.pad_id))
    return ids, length + (length < knobs.limit), score


def _of_beams(cache: KVCache, source: Int[Array, "BK"]) -> KVCache:
    """The cache with row i taken from row `source[i]`."""
    return dataclasses.replace(cache, k=cache.k[:, source], v=cache.v[:, source], valid=cache.valid[source])


def _where_rows(condition: Bool[Array, "B"], yes, no):
    return jnp.where(condition.reshape(-1, *[1] * (yes.ndim - 1)), yes, no)
