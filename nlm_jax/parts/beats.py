"""The BEATs encoder: waveforms to tokens."""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from nlm_jax.core.errors import UserError
from nlm_jax.core.frames import FRAME_LENGTH, FRAME_SHIFT, PATCH, n_tokens
from nlm_jax.generate.audio_inputs import check_waveforms
from nlm_jax.models.beats.config import BeatsConfig
from nlm_jax.models.beats.model import BeatsModel
from nlm_jax.parts.base import Part

MIN_SAMPLES = FRAME_LENGTH + (PATCH - 1) * FRAME_SHIFT
"""Length in samples of the shortest clip with encoder tokens."""


class Beats(Part):
    """The BEATs encoder: one vector for each patch of 0.16 s and 16 mel bands of a 16 kHz waveform.

    Example:
      from nlm_jax.audio.wave import load
      from nlm_jax.models import Beats

      encoder = Beats.from_pretrained("BEATs_iter3_plus_AS2M.pt")
      features = encoder(load("owl.wav")[None])  # f32[1, N, D]
    """

    NEEDS = ("beats",)

    @classmethod
    def from_pretrained(
        cls,
        src: str | pathlib.Path,
        dtype: str = "float32",
        mesh: jax.sharding.Mesh | None = None,
        **options: Any,
    ) -> "Beats":
        """Loads the encoder only; the language model is neither read nor needed.

        Args:
          src: Microsoft's `.pt`; an official NatureLM directory or `.pth`; an export of this package (formats
            beats, naturelm, nlm); a training run; or a hub id.
          dtype: of the computation, "float32" or "bfloat16". Weights keep the dtype of the file.
          mesh: loads every weight directly onto this mesh; None for one device.
          options: those of `convert.formats.open_checkpoint`: `config` (official config.json, for a bare `.pth`),
            `base` (a complete official checkpoint under a partial one), `which` ("best" or "last" of a run).

        Returns:
          the encoder, a function of waveforms.

        Raises:
          UserError: no such file, no encoder in it, or weights that do not fit, by name.
        """
        return cls._load(src, dtype, mesh, **options)

    def __call__(self, waveforms: Any, padding_mask: Any = None) -> Float[Array, "B P D"]:
        """The encoder's output, compiled once for each shape.

        Args:
          waveforms: f32[B, T] in [-1, 1] at 16 kHz, from numpy, jax, or a list of rows; `audio.wave.load` reads files.
          padding_mask: bool[B, T], True = padding; None = no padding.

        Returns:
          f32[B, N, D]: 8 tokens (mel bands, lowest first) for every complete 0.16 s, D = `config.width`. BEATs.py:
          `extract_features` of an encoder without its AudioSet head.

        Raises:
          UserError: another shape, no floats, NaN, or clips too short for one token.
        """
        audio, padding = check_waveforms(waveforms, padding_mask)
        if not n_tokens(audio.shape[1]):
            raise UserError(
                f"waveforms of {audio.shape[1]} samples: too short for the encoder; zero-pad them to {MIN_SAMPLES} "
                "or more"
            )
        return _beats(self.graphdef, self.state, audio, padding, self.dtype)

    @property
    def config(self) -> BeatsConfig:
        """The encoder's sizes."""
        return self.checkpoint.config.beats

    @property
    def module(self) -> BeatsModel:
        """The Flax module with these weights, for training or other uses."""
        return self._modules.beats


@functools.partial(jax.jit, static_argnums=(0, 4))
def _beats(graphdef, state, audio, padding, dtype):
    return nnx.merge(graphdef, state).beats(audio, padding, dtype=dtype).astype(jnp.float32)
