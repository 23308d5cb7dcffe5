"""One pass through the model without decoding, compiled: vectors of clips, logits and loss under teacher forcing."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from nlm_jax.core.batch import Batch


@functools.partial(jax.jit, static_argnums=0)
def encode(graphdef, state, audio: Float[Array, "B T"], padding: Bool[Array, "B T"] | None) -> Float[Array, "B WQ D"]:
    """Vectors f32[B, W * Q, D] of waveforms at 16 kHz; `padding` is True at samples that are none."""
    return nnx.merge(graphdef, state).encode_audio(audio, padding).astype(jnp.float32)


@functools.partial(jax.jit, static_argnums=0)
def all_logits(graphdef, state, batch: Batch) -> Float[Array, "B S V"]:
    """Logits at every position."""
    model = nnx.merge(graphdef, state)
    return model.llama.logits(model.hidden(batch))


@functools.partial(jax.jit, static_argnums=0)
def mean_loss(graphdef, state, batch: Batch) -> Float[Array, ""]:
    """Mean negative log-likelihood of the answer tokens of all rows."""
    logits = nnx.merge(graphdef, state).answer_logits(batch)
    chosen = jnp.take_along_axis(logits, batch.targets[..., None], axis=-1)[..., 0]
    nll = (jax.nn.logsumexp(logits, axis=-1) - chosen) * batch.weights
    return nll.sum() / jnp.maximum(batch.weights.sum(), 1.0)
