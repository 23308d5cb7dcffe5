"""The common form of checkpoints: the result of every import, the source of every export."""

import dataclasses
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from nlm_jax.convert.io import Entry, Progress
from nlm_jax.convert.leaves import Source, Storage, Transform, abstract, as_read, as_stored, build, find, lazy, load
from nlm_jax.convert.lora import interpolate
from nlm_jax.convert.table import Layout, Rule
from nlm_jax.convert.transfer import Leaf, fetch
from nlm_jax.core import precision
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import PART
from nlm_jax.core.remote import with_urls
from nlm_jax.mesh.rules import Rules
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.models.naturelm import NatureLMModel

PARTS = ("beats", "ln_audio", "qformer", "audio_proj", "llama")
"""First components of the paths of a whole model."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Weights with everything that belongs to them. `leaves` may hold a part of the model only (an encoder, an LLM)."""

    config: NatureLMConfig
    leaves: Mapping[str, Leaf]
    """path -> array, in the dtype they are stored in."""
    official: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The official `config.json` the weights came with, if they did."""
    llama: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The language model's own Hugging Face `config.json`, if there was one."""
    tokenizer: pathlib.Path | None = None
    """Directory with `tokenizer.json`."""
    base: str = ""
    """Hub id or absolute directory of the language model under the adapter; empty if none is known."""
    base_changed: bool = False
    """Whether that language model was trained further or drawn at random, so that it is published nowhere."""
    history: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """How the weights were trained, for the model card: `stages`, `from`, `encoder`, `figures` (see `run.history`)."""

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(p for p in PARTS if any(path.split("/")[0] == p for path in self.leaves))

    @property
    def pad_rows(self) -> int:
        """Rows of the vocabulary beyond the language model's own: the appended [PAD]."""
        rows = self.config.llama.vocab
        return max(0, rows - self.llama.get("vocab_size", rows - 1))

    def model(self) -> NatureLMModel:
        """The model with these weights."""
        return build(self.config, self.leaves)


@dataclasses.dataclass(frozen=True)
class Opened:
    """A checkpoint whose configs are read and whose tensors are mapped into memory but not loaded."""

    config: NatureLMConfig
    sources: tuple[Source, ...]
    parts: tuple[str, ...] = PARTS
    official: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    llama: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tokenizer: pathlib.Path | None = None
    base: str = ""
    base_changed: bool = False
    history: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def targets(self, mesh: jax.sharding.Mesh | None = None, rules: Rules = ()) -> dict[str, jax.ShapeDtypeStruct]:
        """Path -> shape (and sharding, if a mesh is given) of the leaves this checkpoint should fill."""
        every = abstract(self.config, mesh, rules)
        return {path: target for path, target in every.items() if path.split("/")[0] in self.parts}

    def only(self, parts: Collection[str]) -> "Opened":
        """The same checkpoint cut down to `parts`: tensors of the others are neither checked nor read.

        Args:
          parts: names of `PARTS`.

        Raises:
          UserError: a part that the checkpoint does not hold.
        """
        if lacking := [part for part in parts if part not in self.parts]:
            where = " and ".join(source.where for source in self.sources)
            raise UserError(f"{where}: holds only {', '.join(self.parts)}; give a checkpoint with {', '.join(lacking)}")
        sources = tuple(source.only(parts) for source in self.sources)
        remaining = tuple(part for part in self.parts if part in parts)
        return dataclasses.replace(self, parts=remaining, sources=tuple(s for s in sources if s.tensors))

    def load(
        self,
        targets: Mapping[str, jax.ShapeDtypeStruct] | None = None,
        *,
        storage: Storage = as_stored,
        transform: Transform = as_read,
        merging_alpha: float = 1.0,
        progress: Progress | None = None,
    ) -> Checkpoint:
        """Streams the weights onto the device, or onto the mesh that the shardings of `targets` name.

        Args:
          targets: leaves wanted, of `self.targets(mesh, rules)` by default with no mesh.
          storage: (path, dtype in the file) -> dtype to keep; the file's own by default, so that nothing is rounded.
          transform: (path, leaf as read) -> the leaves stored in its place; the leaf itself by default.
          merging_alpha: see `interpolate`.
          progress: called with the path of each leaf that has been loaded.

        Raises:
          UserError: a tensor that is unknown, missing, misshapen, all zero, or of a type that cannot be loaded.
        """
        targets = self.targets() if targets is None else targets
        leaves = load(find(self.sources, targets), targets, storage=storage, transform=transform, progress=progress)
        return self._checkpoint(interpolate(leaves, merging_alpha))

    def lazily(self, *, storage: Storage = as_stored, merging_alpha: float = 1.0) -> Checkpoint:
        """The same checked but unread: each tensor is read when it is written. No device is used."""
        return self._checkpoint(interpolate(lazy(find(self.sources, self.targets()), storage=storage), merging_alpha))

    def _checkpoint(self, leaves: Mapping[str, Leaf]) -> Checkpoint:
        names = [field.name for field in dataclasses.fields(Checkpoint) if field.name != "leaves"]
        return Checkpoint(leaves=leaves, **{name: getattr(self, name) for name in names})


def entries(
    leaves: Mapping[str, Leaf | jax.ShapeDtypeStruct], layout: Layout, storage: Storage = as_stored
) -> list[Entry]:
    """Every tensor of `layout` about to be written from our leaves, without its duplicates and buffers.

    `leaves` may be abstract (shape and dtype alone) as long as nothing is written.
    """
    tensors = []
    for rule in layout.rules:
        leaf = leaves[rule.path]
        dtype = np.dtype(storage(rule.path, np.dtype(leaf.dtype)))
        shape = rule.op.their_shape(tuple(leaf.shape[1:] if rule.stacked else leaf.shape))
        for i in range(leaf.shape[0]) if rule.stacked else (None,):
            tensors.append(Entry(rule.at(i), shape, dtype, _parts(rule, leaf, i)))
    return tensors


def _parts(rule: Rule, leaf, layer: int | None) -> Callable[[], Iterator[np.ndarray]]:
    return lambda: iter((rule.op.theirs(fetch(leaf, layer)),))


def buffers(layout: Layout) -> list[Entry]:
    """The constants of a layout, about to be written."""
    constants = [(name, make()) for name, make in layout.buffers]
    return [Entry(name, value.shape, value.dtype, lambda v=value: iter((v,))) for name, value in constants]


def duplicates(layout: Layout, layers: int) -> dict[str, str]:
    """Omitted name -> retained name, for every tensor that a full state dict holds more than once."""
    return {name: rule.name for rule in layout.rules for name in layout.duplicates(rule, layers)}


def published(folder: pathlib.Path) -> str:
    """The final name of a directory that is being written: its absolute path, or its URL in a bucket."""
    return with_urls(folder.absolute().with_name(folder.name.removesuffix(PART)))


def language_model_in(dtype: str | None) -> Storage:
    """Storage of an export: the language model with its adapter in `dtype` and all else in float32.

    So the official class builds it on a GPU ("bfloat16") and on a CPU ("float32"). None keeps the dtypes.
    """
    if dtype is None:
        return as_stored
    chosen = np.dtype(precision.dtype(dtype))
    return lambda path, _: chosen if path.startswith("llama/") else np.dtype("float32")
