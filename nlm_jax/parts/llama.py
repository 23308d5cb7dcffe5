"""The language model: token ids to logits."""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from nlm_jax.core.errors import UserError
from nlm_jax.data.text import Tokenizer
from nlm_jax.models.llama.config import LlamaConfig
from nlm_jax.models.llama.model import LlamaModel
from nlm_jax.nn.attention import packed_attention
from nlm_jax.parts.base import Part


class Llama(Part):
    """The language model: token ids to logits.

    Example:
      from nlm_jax.models import Llama

      llama = Llama.from_pretrained("Llama-3.2-1B-Instruct")
      ids = [llama.tokenizer.encode("The barn owl is")]
      logits = llama(ids)  # f32[1, S, V]
    """

    NEEDS = ("llama",)

    @classmethod
    def from_pretrained(
        cls,
        src: str | pathlib.Path,
        dtype: str = "bfloat16",
        mesh: jax.sharding.Mesh | None = None,
        merging_alpha: float = 1.0,
        **options: Any,
    ) -> "Llama":
        """Loads the language model only, with its LoRA adapter if it has one.

        Args:
          src: a Hugging Face Llama directory (an export of format llama-merged is one), an official NatureLM directory
            or `.pth`, an export of this package (formats naturelm, nlm), a training run, or a hub id.
          dtype: of the computation, "bfloat16" or "float32". Weights keep the dtype of the file.
          mesh: loads every weight directly onto this mesh; None for one device.
          merging_alpha: 0 = the base language model, 1 = the trained one, between: interpolated (arXiv 2511.05171).
          options: those of `convert.formats.open_checkpoint`: `llm` (if `src` does not include the language model),
            `config`, `base`, `which`, `pad_rows`.

        Returns:
          the language model; its `tokenizer` is None if the source has none.

        Raises:
          UserError: no such file, no language model in it, or weights that do not fit, by name.
        """
        return cls._load(src, dtype, mesh, merging_alpha, **options)

    def __call__(self, ids: Any) -> Float[Array, "B S V"]:
        """Logits of the next token at every position, compiled once for each shape.

        Args:
          ids: i32[B, S], rows of token ids. Attention is causal, so padding on the right changes nothing before it.

        Returns:
          f32[B, S, V].

        Raises:
          UserError: another shape, no integers, or ids outside the vocabulary.
        """
        return _logits(self.graphdef, self.state, self._check_ids(ids), self.dtype)

    def hidden(self, ids: Any) -> Float[Array, "B S D"]:
        """The hidden states f32[B, S, D] after the last norm; arguments and errors as of a call."""
        return _hidden(self.graphdef, self.state, self._check_ids(ids), self.dtype)

    @property
    def config(self) -> LlamaConfig:
        """The language model's sizes."""
        return self.checkpoint.config.llama

    @property
    def module(self) -> LlamaModel:
        """The Flax module with these weights, for training or other uses."""
        return self._modules.llama

    @functools.cached_property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer in the source of the weights, None if it has none."""
        folder = self.checkpoint.tokenizer
        return None if folder is None else Tokenizer.from_pretrained(folder)

    def _check_ids(self, ids: Any) -> Int[Array, "B S"]:
        """Token ids as an array. Raises UserError for another shape, other types, or unknown ids."""
        try:
            ids = ids if hasattr(ids, "shape") else np.asarray(ids)
        except ValueError as error:
            raise UserError("ids: rows differ in length; pad them on the right") from error
        if len(ids.shape) != 2 or not ids.size or not jnp.issubdtype(ids.dtype, jnp.integer):
            raise UserError(f"ids of {ids.dtype} and shape {tuple(ids.shape)}: give i32[B, S], rows of token ids")
        vocab = self.config.vocab
        if not isinstance(ids, jax.core.Tracer) and not bool(((ids >= 0) & (ids < vocab)).all()):
            raise UserError(f"ids: hold values outside the vocabulary, 0 to {vocab - 1}")
        return jnp.asarray(ids, jnp.int32)


def _hidden_states(llama: LlamaModel, ids: Int[Array, "B S"], dtype) -> Float[Array, "B S D"]:
    """Hidden states after the last norm, with causal attention over whole rows."""
    attention = packed_attention("xla", jnp.ones_like(ids))
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)

    def mix(cache, _layer, q, k, v):
        return attention(q, k, v), cache

    return llama(llama.embed_tokens(ids, dtype), positions, mix)[0]


@functools.partial(jax.jit, static_argnums=(0, 3))
def _hidden(graphdef, state, ids, dtype):
    return _hidden_states(nnx.merge(graphdef, state).llama, ids, dtype).astype(jnp.float32)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _logits(graphdef, state, ids, dtype):
    llama = nnx.merge(graphdef, state).llama
    return llama.logits(_hidden_states(llama, ids, dtype)).astype(jnp.float32)
