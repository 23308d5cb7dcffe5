"""Prefill, and every step after it in one compiled loop over a KV cache."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from nlm_jax.core.precision import dtype
from nlm_jax.generate import beam, sampling
from nlm_jax.generate.decode_state import (
    Decoding,
    Knobs,
    Rows,
    blank,
    checked,
    constrained,
    enlarged,
    fresh,
    frozen,
    put,
)
from nlm_jax.generate.prompts import Prompts
from nlm_jax.mesh.sharding import constrain_rows
from nlm_jax.models.naturelm import NatureLMModel
from nlm_jax.models.splice import splice
from nlm_jax.nn.cache import KVCache, attend_cached, empty

BROKEN = 2
"""What `decode` tells of a row whose logits were not finite."""


def prefill(model: NatureLMModel, prompts: Prompts) -> tuple[Float[Array, "B V"], KVCache]:
    """Logits f32[B, V] of the first new token, and a cache that holds the prompts and nothing else."""
    llama, kind = model.cfg.llama, dtype(model.cfg.compute_dtype)
    text = constrain_rows(model.llama.embed_tokens(prompts.tokens, kind))
    x = splice(text, prompts.vectors, prompts.audio_slot)
    x = jnp.where(prompts.real[..., None], x, 0)
    b, s = prompts.tokens.shape
    causal = jnp.tril(jnp.ones((s, s), bool))
    mix = attend_cached(jnp.zeros(b, jnp.int32), causal & prompts.real[:, None, :])
    cache = empty(llama.layers, b, s, llama.kv_heads, llama.head_dim, kind)
    hidden, cache = model.llama(x, prompts.positions, mix, cache)
    last = jnp.take_along_axis(hidden, prompts.last[:, None, None], axis=1)
    return model.llama.logits(last)[:, 0], cache


def extend(model: NatureLMModel, rows: Rows) -> tuple[Float[Array, "B beams V"], Rows]:
    """Logits after the newest token of every beam, whose keys and values join the row's cache."""
    at = jnp.maximum(rows.step - 1, 0)[:, None, None]
    newest = jnp.take_along_axis(rows.ids, at, axis=2)[:, :, 0]
    beams = newest.shape[1]
    own = rows.end[:, None] + jnp.arange(beams)
    visible = rows.visible | (own[:, :, None] == jnp.arange(rows.cache.slots))
    x = constrain_rows(model.llama.embed_tokens(newest, dtype(model.cfg.compute_dtype)))
    positions = jnp.repeat(rows.position[:, None], beams, axis=1)
    hidden, cache = model.llama(x, positions, attend_cached(rows.end, visible), rows.cache)
    grown = dataclasses.replace(rows, cache=cache, visible=visible, end=rows.end + beams, position=rows.position + 1)
    return model.llama.logits(hidden), grown


def choose(rows: Rows, logits: Float[Array, "B beams V"], how: Decoding) -> Rows:
    """One token more for every beam of every row."""
    return sampling.choose(rows, logits) if rows.beams is None else beam.choose(rows, logits, how)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def blanks(cfg, how: Decoding, rows: int, slots: int, room: int) -> Rows:
    """See `rows.blank`."""
    return blank(cfg, how, rows, slots, room)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def grow(rows: Rows, slots: int, room: int, pad_id: int) -> Rows:
    """See `rows.enlarged`."""
    return enlarged(rows, slots, room, pad_id)


@functools.partial(jax.jit, static_argnames=("graphdef", "how"))
def begin(graphdef, state, prompts: Prompts, knobs: Knobs, *, how: Decoding) -> Rows:
    """New requests with their first tokens, in a cache that holds their prompts and has room for nothing else.

    Compiled once for each number of rows and each length of their prompts, whatever they join.
    """
    model = nnx.merge(graphdef, state)
    logits, cache = prefill(model, prompts)
    every_beam = jnp.repeat(logits[:, None], how.beams, axis=1)
    new = checked(fresh(model.cfg, how, cache, prompts.real, knobs, 1), every_beam)
    return constrained(frozen(new, choose(new, every_beam, how)))


@functools.partial(jax.jit, static_argnames="pad_id", donate_argnums=0)
def join(rows: Rows, new: Rows, at: Int[Array, "n"], *, pad_id: int) -> Rows:
    """See `rows.put`."""
    return put(rows, new, at, pad_id)


@functools.partial(jax.jit, static_argnames=("graphdef", "how"), donate_argnames="rows")
def decode(
    graphdef, state, rows: Rows, taken: Bool[Array, "B"], steps, enough, *, how: Decoding
) -> tuple[Rows, Int[Array, "B told"]]:
    """At most `steps` tokens more in every row that is not finished.

    Args:
      taken: rows with a request; all others are finished from here on.
      steps: the loop ends after so many, or when a row has no room left in the cache,
      enough: or when so many of the rows that are taken are finished, or all.

    Returns:
      the rows, and what is to be told of each: 1 if it is finished, 2 (`BROKEN`) if its logits were not finite, the
      slots of the cache it fills, the bits of its float32 score (0 without beams), the number of new tokens, and them.
    """
    model = nnx.merge(graphdef, state)
    rows = constrained(dataclasses.replace(rows, finished=rows.finished | ~taken))

    def going(carry):
        done, rows = carry
        finished = (rows.finished & taken).sum()
        full = (~rows.finished & (rows.end + how.beams > rows.cache.slots)).any()
        return (done < steps) & ~rows.finished.all() & (finished < enough) & ~full

    def body(carry):
        done, rows = carry
        logits, longer = extend(model, rows)
        return done + 1, frozen(rows, choose(checked(longer, logits), logits, how))

    _, rows = jax.lax.while_loop(going, body, (jnp.zeros((), jnp.int32), rows))
    if rows.beams is None:
        ids, length, score = rows.ids[:, 0], rows.step, jnp.zeros(len(rows.step))
    else:
        ids, length, score = beam.best(rows, how)
    score = jax.lax.bitcast_convert_type(score.astype(jnp.float32), jnp.int32)  # so that one array tells it all
    status = jnp.where(rows.broken, BROKEN, rows.finished.astype(jnp.int32))
    facts = jnp.stack([status, rows.end, score, length], axis=1)
    return rows, jnp.concatenate([facts, ids], axis=1)
