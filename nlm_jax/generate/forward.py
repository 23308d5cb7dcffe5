"""Compiled forward passes without decoding: vectors of clips, logits and loss under teacher forcing."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from nlm_jax.core.batch import Batch
from nlm_jax.nn.loss import token_nll


@functools.partial(jax.jit, static_argnums=0)
def encode(graphdef, state, audio: Float[Array, "B T"], padding: Bool[Array, "B T"] | None) -> Float[Array, "B WQ D"]:
    """Vectors f32[B, W * Q, D] of waveforms at 16 kHz; `padding` is True at padding samples."""
    return nnx.merge(graphdef, state).encode_audio(audio, padding).astype(jnp.float32)


@functools.partial(jax.jit, static_argnums=0)
def all_logits(graphdef, state, batch: Batch) -> Float[Array, "B S V"]:
    """Logits at every position."""
    model = nnx.merge(graphdef, state)
    return model.llama.logits(model.hidden(batch))


@functools.partial(jax.jit, static_argnums=0)
def mean_loss(graphdef, state, batch: Batch) -> Float[Array, ""]:
    """Mean negative log-likelihood of the answer tokens of all rows."""
    nll = token_nll(nnx.merge(graphdef, state).answer_logits(batch), batch.targets) * batch.weights
    return nll.sum() / jnp.maximum(batch.weights.sum(), 1.0)
