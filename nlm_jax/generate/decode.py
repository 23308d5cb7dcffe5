"""Greedy decoding: prefill, then every step in one compiled loop over a KV cache."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from nlm_jax.core.batch import Batch
from nlm_jax.core.precision import dtype
from nlm_jax.models.naturelm import NatureLM
from nlm_jax.nn.cache import KVCache, admit, advance, empty, mix_cached

REFERENCE_STOP_ID = 2
"""The reference stops a whole batch once the first row's token is this one. Here it is an ordinary token by default."""


@dataclasses.dataclass(frozen=True)
class Decoding:
    """What is fixed at compile time."""

    eos_ids: tuple[int, ...]
    pad_id: int
    slots: int
    """Room for new tokens."""


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=("limit", "repetition_penalty", "stop_id"), meta_fields=()
)
@dataclasses.dataclass(frozen=True)
class Knobs:
    """What may change from call to call without compiling again."""

    limit: Any
    """Tokens to make at most, the end symbol included; at most `Decoding.slots`."""
    repetition_penalty: Any = 1.0
    """See `penalized`; for tokens the answer already holds. Prompt tokens do not count: the reference hands the prompt
    over as embeddings."""
    stop_id: Any = -1
    """Ends the batch when it is the first row's token; -1 = none. See `REFERENCE_STOP_ID`."""


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=("ids", "step", "done", "seen", "cache"), meta_fields=()
)
@dataclasses.dataclass(frozen=True)
class _Loop:
    ids: Int[Array, "B slots"]
    step: Int[Array, ""]
    done: Bool[Array, "B"]
    seen: Bool[Array, "B V"]
    cache: KVCache


def prefill(model: NatureLM, batch: Batch, slots: int) -> tuple[Float[Array, "B V"], KVCache]:
    """Logits after the last position of every row, and the cache with `slots` free behind the prompt."""
    cfg, real = model.cfg.llama, batch.segments > 0
    x = jnp.where(real[..., None], model.embed(batch), 0)
    cache = empty(
        cfg.layers, batch.rows, batch.length + slots, cfg.kv_heads, cfg.head_dim, dtype(model.cfg.compute_dtype)
    )
    hidden, cache = model.llama(x, batch.positions, mix_cached, admit(cache, real))
    return model.llama.logits(hidden[:, -1:])[:, 0], advance(cache, batch.length)


def extend(model: NatureLM, tokens: Int[Array, "B"], positions: Int[Array, "B"], cache: KVCache):
    """Logits f32[B, V] after one more token per row, and the longer cache."""
    x = model.llama.embed_tokens(tokens[:, None], dtype(model.cfg.compute_dtype))
    cache = admit(cache, jnp.ones((len(tokens), 1), bool))
    hidden, cache = model.llama(x, positions[:, None], mix_cached, cache)
    return model.llama.logits(hidden)[:, 0], advance(cache, 1)


def penalized(scores: Float[Array, "... V"], seen: Bool[Array, "... V"], penalty) -> Float[Array, "... V"]:
    """Scores of tokens already `seen` made worse: positive ones divided by `penalty`, negative ones multiplied."""
    return jnp.where(seen, jnp.where(scores < 0, scores * penalty, scores / penalty), scores)


@functools.partial(jax.jit, static_argnames=("graphdef", "how"))
def greedy(
    graphdef, state, batch: Batch, knobs: Knobs, *, how: Decoding
) -> tuple[Int[Array, "B slots"], Int[Array, ""]]:
    """The most likely next token, again and again.

    Args:
      graphdef, state: of the model (`nnx.split`).
      batch: rows of `prompts.prefill_rows`; rows without an example are done from the start.

    Returns:
      i32[B, slots]: new tokens with the end symbol, `pad_id` behind it; and the number of steps that were taken.
    """
    model = nnx.merge(graphdef, state)
    length = (batch.segments > 0).sum(1)
    logits, cache = prefill(model, batch, how.slots)
    eos = jnp.asarray(how.eos_ids)

    def choose(loop: _Loop, logits) -> _Loop:
        best = jnp.argmax(penalized(logits, loop.seen, knobs.repetition_penalty), axis=-1)
        token = jnp.where(loop.done, how.pad_id, best.astype(jnp.int32))
        ids = jax.lax.dynamic_update_slice(loop.ids, token[:, None], (0, loop.step))
        seen = loop.seen.at[jnp.arange(len(token)), token].set(True)
        done = loop.done | jnp.isin(token, eos) | (token[0] == knobs.stop_id)
        return dataclasses.replace(loop, ids=ids, step=loop.step + 1, done=done, seen=seen)

    def going(loop: _Loop):
        return (loop.step < knobs.limit) & ~loop.done.all()

    def body(loop: _Loop) -> _Loop:
        last = jax.lax.dynamic_slice_in_dim(loop.ids, loop.step - 1, 1, axis=1)[:, 0]
        logits, cache = extend(model, last, length + loop.step - 1, loop.cache)
        return choose(dataclasses.replace(loop, cache=cache), logits)

    loop = _Loop(
        ids=jnp.full((batch.rows, how.slots), how.pad_id, jnp.int32),
        step=jnp.zeros((), jnp.int32),
        done=length == 0,
        seen=jnp.zeros((batch.rows, model.cfg.llama.vocab), bool),
        cache=cache,
    )
    loop = jax.lax.while_loop(going, body, choose(loop, logits))
    return loop.ids, loop.step
