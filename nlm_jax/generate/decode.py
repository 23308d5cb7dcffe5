"""Prefill, and every step after it in one compiled loop over a KV cache."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from nlm_jax.core.precision import dtype
from nlm_jax.generate import beam, sampling
from nlm_jax.generate.decode_state import (
    DecodeConfig,
    DecodeState,
    SamplingArrays,
    blank,
    checked,
    constrained,
    enlarge,
    fresh,
    frozen,
    insert,
)
from nlm_jax.generate.prompts import Prompts
from nlm_jax.mesh.sharding import constrain_rows
from nlm_jax.models.naturelm import NatureLMModel
from nlm_jax.models.splice import splice
from nlm_jax.nn.cache import KVCache, attend_cached, empty


class StepOutput(NamedTuple):
    """State of every row that the host needs after some steps."""

    finished: Bool[Array, "B"]
    broken: Bool[Array, "B"]
    """The logits were not finite: the row is finished without an answer."""
    end: Int[Array, "B"]
    """Number of cache slots that are written."""
    score: Float[Array, "B"]
    """Score of the best beam; 0 without beams."""
    length: Int[Array, "B"]
    """Number of new tokens."""
    tokens: Int[Array, "B T"]
    """The new tokens, padded; of the best beam."""


def prefill(model: NatureLMModel, prompts: Prompts) -> tuple[Float[Array, "B V"], KVCache]:
    """Logits f32[B, V] of the first new token, and a cache of the prompts' length."""
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


def extend(model: NatureLMModel, rows: DecodeState) -> tuple[Float[Array, "B beams V"], DecodeState]:
    """Logits after the newest token of every beam, and the rows with its keys and values in the cache."""
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


def choose(rows: DecodeState, logits: Float[Array, "B beams V"], config: DecodeConfig) -> DecodeState:
    """Appends a token to every beam of every row."""
    return sampling.choose(rows, logits) if rows.beams is None else beam.choose(rows, logits, config)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def blank_rows(cfg, config: DecodeConfig, rows: int, slots: int, max_tokens: int) -> DecodeState:
    """See `decode_state.blank`."""
    return blank(cfg, config, rows, slots, max_tokens)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def enlarge_rows(rows: DecodeState, slots: int, max_tokens: int, pad_id: int) -> DecodeState:
    """See `decode_state.enlarge`."""
    return enlarge(rows, slots, max_tokens, pad_id)


@functools.partial(jax.jit, static_argnames=("graphdef", "config"))
def prefill_rows(graphdef, state, prompts: Prompts, arrays: SamplingArrays, *, config: DecodeConfig) -> DecodeState:
    """New requests with their first tokens, in a cache of the prompts' length and with memory for one new token.

    Compiled once for each number of rows and each length of their prompts, whatever rows they are inserted into.
    """
    model = nnx.merge(graphdef, state)
    logits, cache = prefill(model, prompts)
    every_beam = jnp.repeat(logits[:, None], config.beams, axis=1)
    new = checked(fresh(model.cfg, config, cache, prompts.real, arrays, 1), every_beam)
    return constrained(frozen(new, choose(new, every_beam, config)))


@functools.partial(jax.jit, static_argnames="pad_id", donate_argnums=0)
def insert_rows(rows: DecodeState, new: DecodeState, at: Int[Array, "n"], *, pad_id: int) -> DecodeState:
    """See `decode_state.insert`."""
    return insert(rows, new, at, pad_id)


@functools.partial(jax.jit, static_argnames=("graphdef", "config"), donate_argnames="rows")
def decode(
    graphdef, state, rows: DecodeState, active: Bool[Array, "B"], steps, enough, *, config: DecodeConfig
) -> tuple[DecodeState, StepOutput]:
    """Decodes up to `steps` tokens in every row that is not finished.

    Args:
      graphdef, state: of the model.
      rows: the state before; its memory is reused.
      active: rows with a request; all others count as finished.
      steps: the loop ends after this number, or when the cache of a row is full,
      enough: or when this number of the active rows are finished, or all.
      config: static.

    Returns:
      the state after, and what the host needs of it.
    """
    model = nnx.merge(graphdef, state)
    rows = constrained(dataclasses.replace(rows, finished=rows.finished | ~active))

    def unfinished(carry):
        done, rows = carry
        finished = (rows.finished & active).sum()
        full = (~rows.finished & (rows.end + config.beams > rows.cache.slots)).any()
        return (done < steps) & ~rows.finished.all() & (finished < enough) & ~full

    def body(carry):
        done, rows = carry
        logits, longer = extend(model, rows)
        return done + 1, frozen(rows, choose(checked(longer, logits), logits, config))

    _, rows = jax.lax.while_loop(unfinished, body, (jnp.zeros((), jnp.int32), rows))
    if rows.beams is None:
        tokens, length, score = rows.ids[:, 0], rows.step, jnp.zeros(len(rows.step))
    else:
        tokens, length, score = beam.best(rows, config)
    return rows, StepOutput(rows.finished, rows.broken, rows.end, score.astype(jnp.float32), length, tokens)
