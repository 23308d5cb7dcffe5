"""NatureLM-audio, waveform to answer logits, on one page."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from nlm_jax.core import precision
from nlm_jax.core.batch import Batch
from nlm_jax.mesh.sharding import constrain_rows
from nlm_jax.models.beats.model import BeatsModel
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.models.llama.model import LlamaModel
from nlm_jax.models.qformer.model import QFormerModel
from nlm_jax.models.splice import splice
from nlm_jax.nn.attention import packed_attention
from nlm_jax.nn.linear import Linear, subkey
from nlm_jax.nn.norm import LayerNorm


class NatureLMModel(nnx.Module):
    """The whole model as a Flax module; `nlm_jax.NatureLM` is the class with `from_pretrained` and `generate`.

    `key=None` everywhere means evaluation. Source: arXiv 2411.07186; the official class `NatureLM.models.NatureLM`.
    """

    def __init__(self, cfg: NatureLMConfig, *, rngs: nnx.Rngs):
        self.beats = BeatsModel(cfg.beats, rngs=rngs)
        self.ln_audio = LayerNorm(cfg.beats.width, rngs=rngs)
        self.qformer = QFormerModel(cfg.qformer, cfg.beats.width, rngs=rngs)
        self.audio_proj = Linear(cfg.qformer.width, cfg.llama.width, ("embed", None), bias=True, rngs=rngs)
        self.llama = LlamaModel(cfg.llama, rngs=rngs)
        self.cfg = cfg

    def encode_audio(
        self, audio: Float[Array, "B samples"], padding: Bool[Array, "B samples"] | None = None, *, key=None
    ) -> Float[Array, "B WQ D"]:
        """Vectors of waveforms in the embedding space of the language model.

        Args:
          audio: f32[B, T] at 16 kHz.
          padding: bool[B, T], True = padding sample. Only the encoder uses it: the Q-Former ignores it, as in the
            reference.
          key: enables dropout and layerdrop.

        Returns:
          [B, W * Q, D]: Q queries for each of W windows.
        """
        dtype = precision.dtype(self.cfg.compute_dtype)
        tokens = self.beats(audio, padding, dtype=dtype, remat=self.cfg.remat, key=subkey(key, 0))
        return constrain_rows(self.audio_proj(self.qformer(self.ln_audio(tokens), key=subkey(key, 1))))

    def embed(self, batch: Batch, *, key=None) -> Float[Array, "B S D"]:
        """Input embeddings of packed rows: those of the tokens, with each clip's vectors at its placeholder."""
        b, a, t = batch.audio.shape
        padding = jnp.arange(t) >= batch.audio_length.reshape(-1, 1)
        vectors = self.encode_audio(batch.audio.reshape(b * a, t), padding, key=key)
        text = constrain_rows(self.llama.embed_tokens(batch.tokens, vectors.dtype))
        return splice(text, vectors.reshape(b, -1, vectors.shape[-1]), batch.audio_slot)

    def hidden(self, batch: Batch, *, key=None) -> Float[Array, "B S D"]:
        """Last hidden states of packed rows; attention stays within each example of a row."""
        attention = packed_attention(self.cfg.attention, batch.segments)

        def mix(cache, _layer, q, k, v):
            return attention(q, k, v), cache

        x = self.embed(batch, key=subkey(key, 0))
        return self.llama(x, batch.positions, mix, remat=self.cfg.remat, key=subkey(key, 1))[0]

    def answer_hidden(self, batch: Batch, *, key=None) -> Float[Array, "B M D"]:
        """Hidden states at the positions that predict answer tokens (a sixth of those in real training data)."""
        return jnp.take_along_axis(self.hidden(batch, key=key), batch.answer_index[..., None], axis=1)

    def answer_logits(self, batch: Batch, *, key=None) -> Float[Array, "B M V"]:
        """Logits f32[B, M, V] at the positions that predict answer tokens."""
        return self.llama.logits(self.answer_hidden(batch, key=key))
