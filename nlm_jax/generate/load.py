"""The weights of a whole model, ready to compute, and its tokenizer, from any supported source."""

import dataclasses
import pathlib
from typing import Any

import jax

from nlm_jax.convert.checkpoint import PARTS, Checkpoint
from nlm_jax.convert.formats import open_checkpoint
from nlm_jax.core import precision
from nlm_jax.core.errors import UserError
from nlm_jax.data.text import Tokenizer
from nlm_jax.mesh.rules import rules
from nlm_jax.mesh.sharding import check_heads


def load_checkpoint(
    src: str | pathlib.Path,
    dtype: str = "bfloat16",
    merging_alpha: float = 1.0,
    mesh: jax.sharding.Mesh | None = None,
    **options: Any,
) -> tuple[Checkpoint, Tokenizer]:
    """Loads a checkpoint configured to compute in `dtype`, and the tokenizer that belongs to it.

    Args:
      src, dtype, merging_alpha, mesh: as for `NatureLM.from_pretrained`.
      options: those of `convert.formats.open_checkpoint`.

    Raises:
      UserError: not a whole model, no tokenizer, a vocabulary that does not fit, and all that `convert` raises.
    """
    precision.dtype(dtype)
    opened = open_checkpoint(src, **options)
    if missing := [part for part in PARTS if part not in opened.parts]:
        raise UserError(f"{src}: holds only {', '.join(opened.parts)}; a model needs {', '.join(missing)} too")
    if opened.tokenizer is None:
        raise UserError(f"{src}: no tokenizer with it; pass llm= with a directory that holds a tokenizer.json")
    tokenizer = Tokenizer.from_pretrained(opened.tokenizer)
    rows = opened.config.llama.vocab
    if tokenizer.vocab_size > rows:
        raise UserError(
            f"{opened.tokenizer}: the tokenizer has {tokenizer.vocab_size} tokens but the model {rows} embedding rows; "
            "they do not belong together"
        )
    targets = None
    if mesh is not None:
        check_heads(opened.config.llama.heads, mesh)
        targets = opened.targets(mesh, rules())
    checkpoint = opened.load(targets, merging_alpha=merging_alpha)
    config = dataclasses.replace(checkpoint.config, compute_dtype=dtype)
    return dataclasses.replace(checkpoint, config=config), tokenizer
