"""The Q-Former: encoder tokens to one vector for each window and query."""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from nlm_jax.core.errors import UserError
from nlm_jax.models.qformer.config import QFormerConfig
from nlm_jax.models.qformer.model import QFormerModel
from nlm_jax.parts.base import Part


class QFormer(Part):
    """The window-level Q-Former after its input norm: encoder tokens to a vector for each window and query.

    Example:
      from nlm_jax.models import Beats, QFormer

      encoder = Beats.from_pretrained("NatureLM-audio")
      qformer = QFormer.from_pretrained("NatureLM-audio")
      vectors = qformer(encoder(waveforms))  # f32[B, W * Q, D]
    """

    NEEDS = ("ln_audio", "qformer")

    @classmethod
    def from_pretrained(
        cls,
        src: str | pathlib.Path,
        dtype: str = "float32",
        mesh: jax.sharding.Mesh | None = None,
        **options: Any,
    ) -> "QFormer":
        """Loads only the Q-Former and the norm before it (`ln_audio`).

        Args:
          src: an official NatureLM directory or `.pth`, an export of this package (formats naturelm, nlm), a
            training run, or a hub id.
          dtype: of the computation, "float32" or "bfloat16". Weights keep the dtype of the file.
          mesh: loads every weight directly onto this mesh; None for one device.
          options: those of `Beats.from_pretrained`, and `qformer_config`: path or dict with the sizes, which official
            configs lack; bert-base-uncased's with 2 layers by default.

        Returns:
          the Q-Former, a function of the output of `Beats`.

        Raises:
          UserError: no such file, no Q-Former in it, or weights that do not fit, by name.
        """
        return cls._load(src, dtype, mesh, **options)

    def __call__(self, tokens: Any) -> Float[Array, "B WQ D"]:
        """A vector for every window and query, before the projection into the language model's space.

        Args:
          tokens: f32[B, N, Ds], the output of `Beats`. Tokens of an incomplete last window are ignored.

        Returns:
          f32[B, W * Q, D], D = `config.width`.

        Raises:
          UserError: another shape, no floats, or fewer tokens than one window.
        """
        tokens = tokens if hasattr(tokens, "shape") else np.asarray(tokens)
        width = self.checkpoint.config.beats.width
        if len(tokens.shape) != 3 or not tokens.shape[0] or tokens.shape[2] != width:
            raise UserError(f"tokens of shape {tuple(tokens.shape)}: give f32[B, N, {width}], what the encoder returns")
        if not jnp.issubdtype(tokens.dtype, jnp.floating):
            raise UserError(f"tokens of {tokens.dtype}: give f32[B, N, {width}], what the encoder returns")
        if tokens.shape[1] < self.config.kernel:
            raise UserError(
                f"{tokens.shape[1]} tokens: fewer than the {self.config.kernel} of one window; give about half a "
                "second of audio or more"
            )
        return _qformer(self.graphdef, self.state, jnp.asarray(tokens), self.dtype)

    @property
    def config(self) -> QFormerConfig:
        """The Q-Former's sizes."""
        return self.checkpoint.config.qformer

    @property
    def module(self) -> QFormerModel:
        """The Flax module with these weights, without the norm before it."""
        return self._modules.qformer


@functools.partial(jax.jit, static_argnums=(0, 3))
def _qformer(graphdef, state, tokens, dtype):
    modules = nnx.merge(graphdef, state)
    return modules.qformer(modules.ln_audio(tokens.astype(dtype))).astype(jnp.float32)
