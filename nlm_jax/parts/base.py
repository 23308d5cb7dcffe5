"""The base class of `Beats`, `QFormer` and `Llama`: opens a checkpoint and reads one part of it."""

import pathlib
from typing import Any, ClassVar

import jax
from flax import nnx

from nlm_jax.convert.checkpoint import Checkpoint
from nlm_jax.convert.formats import open_checkpoint
from nlm_jax.convert.leaves import filled
from nlm_jax.core import precision
from nlm_jax.mesh.rules import rules
from nlm_jax.mesh.sharding import check_heads
from nlm_jax.models.beats.model import BeatsModel
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.models.llama.model import LlamaModel
from nlm_jax.models.qformer.model import QFormerModel
from nlm_jax.nn.norm import LayerNorm


class Part:
    """One part of the model, with its weights from a checkpoint; other weights are not read."""

    NEEDS: ClassVar[tuple[str, ...]]
    """The entries of `convert.checkpoint.PARTS` that it consists of."""

    def __init__(self, checkpoint: Checkpoint, dtype: str = "float32"):
        """Use `from_pretrained`, or pass a checkpoint.

        Args:
          checkpoint: must hold the leaves of `NEEDS`; others are ignored.
          dtype: of the computation, "float32" or "bfloat16".

        Raises:
          UserError: another dtype.
        """
        self.dtype = precision.dtype(dtype)
        leaves = {path: leaf for path, leaf in checkpoint.leaves.items() if path.split("/")[0] in self.NEEDS}
        self.checkpoint = checkpoint
        self._modules = filled(lambda: Modules(checkpoint.config, self.NEEDS), leaves)
        self.graphdef, self.state = nnx.split(self._modules)

    @classmethod
    def _load(
        cls,
        src: str | pathlib.Path,
        dtype: str,
        mesh: jax.sharding.Mesh | None,
        merging_alpha: float = 1.0,
        **options: Any,
    ) -> Any:
        """Opens `src` and loads this part; arguments and errors are those of the subclasses' `from_pretrained`."""
        precision.dtype(dtype)
        opened = open_checkpoint(src, parts=cls.NEEDS, **options)
        if mesh is not None and "llama" in cls.NEEDS:
            check_heads(opened.config.llama.heads, mesh)
        targets = None if mesh is None else opened.targets(mesh, rules())
        return cls(opened.load(targets, merging_alpha=merging_alpha), dtype)


class Modules(nnx.Module):
    """Some of the modules of `NatureLMModel`, under the same names."""

    def __init__(self, cfg: NatureLMConfig, parts: tuple[str, ...]):
        rngs = nnx.Rngs(0)
        if "beats" in parts:
            self.beats = BeatsModel(cfg.beats, rngs=rngs)
        if "ln_audio" in parts:
            self.ln_audio = LayerNorm(cfg.beats.width, rngs=rngs)
        if "qformer" in parts:
            self.qformer = QFormerModel(cfg.qformer, cfg.beats.width, rngs=rngs)
        if "llama" in parts:
            self.llama = LlamaModel(cfg.llama, rngs=rngs)
