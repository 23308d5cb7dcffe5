"""From tensors by name to leaves by path: finds every leaf's tensors, checks them, and places them."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

import jax
import ml_dtypes
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from nlm_jax.convert.io import Progress
from nlm_jax.convert.table import EMBED, HEAD, Layout, Rule
from nlm_jax.convert.transfer import Lazy, NotFinite, finite, place
from nlm_jax.core.errors import UserError
from nlm_jax.core.tree import named_leaves, nest
from nlm_jax.mesh.rules import Rules
from nlm_jax.mesh.sharding import shardings
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.models.naturelm import NatureLMModel

Module = TypeVar("Module", bound=nnx.Module)
FLOATS = (np.dtype("float32"), np.dtype(ml_dtypes.bfloat16), np.dtype("float16"))


@dataclasses.dataclass(frozen=True)
class Source:
    """Tensors by name, what their names mean, and what to call the file in a message.

    `grows` says that the vocabulary may have fewer rows here than in the model: the missing ones, [PAD], become zero.
    """

    where: str
    tensors: Mapping[str, np.ndarray]
    layout: Layout
    grows: bool = False

    def only(self, parts: Collection[str]) -> "Source":
        """Without the tensors of parts of a model that are not in `parts`; unknown tensors stay, to be reported."""
        rules = {name: match.rule for name in self.tensors if (match := self.layout.match(name))}
        tensors = {
            name: tensor
            for name, tensor in self.tensors.items()
            if name not in rules or rules[name].path.split("/")[0] in parts
        }
        return dataclasses.replace(self, tensors=tensors)


@functools.lru_cache(maxsize=16)
def _abstract_state(cfg: NatureLMConfig):
    return jax.eval_shape(lambda: nnx.state(NatureLMModel(cfg, rngs=nnx.Rngs(0))))


def abstract(cfg: NatureLMConfig, mesh: Mesh | None = None, rules: Rules = ()) -> dict[str, jax.ShapeDtypeStruct]:
    """Path -> shape of every parameter of a model, with its sharding if a mesh is given. Allocates nothing."""
    state = _abstract_state(cfg)
    leaves = named_leaves(state)
    if mesh is None:
        return {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in leaves.items()}
    places = named_leaves(shardings(state, mesh, rules))
    return {p: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=places[p]) for p, leaf in leaves.items()}


@dataclasses.dataclass(frozen=True)
class LeafTensors:
    """The tensors of one leaf, in our orientation: its own, or (`stacked`) those of its layers."""

    names: tuple[str, ...]
    views: tuple[np.ndarray, ...]
    stacked: bool
    where: str


def find(sources: Sequence[Source], targets: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, LeafTensors]:
    """Every leaf of `targets` in the first source that has it, checked; a stacked leaf comes whole from one source.

    Args:
      sources: in order of preference, e.g. what was trained before the base it was trained on.
      targets: path -> shape. Their dtype is not looked at.

    Raises:
      UserError: a tensor that is unknown, missing, of the wrong shape or type, all zero, or unlike its duplicate.
    """
    for source in sources:
        _check_names(source, targets)
    tensors, missing = {}, []
    for path, target in targets.items():
        candidates = [c for source in sources if (c := _candidate(source, path, target.shape))]
        holders = [c for c in candidates if any(name in c[0].tensors for name in c[1])]
        chosen = (holders or candidates or [None])[0]
        absent = [n for n in chosen[1] if n not in chosen[0].tensors] if chosen else [path]
        missing += absent
        if not absent:
            tensors[path] = _views(*chosen, path, target.shape)
    if missing:
        have = " and ".join(source.where for source in sources)
        raise UserError(f"{have}: {_some(missing)} is missing, which the model of the given config needs")
    _check_adapter(tensors)
    return tensors


Storage = Callable[[str, np.dtype], np.dtype]
"""(path, dtype in the file) -> dtype to keep it in."""


def as_stored(path: str, dtype: np.dtype) -> np.dtype:
    """The file's own: import and export together change no bit."""
    return dtype


Transform = Callable[[str, jax.Array], Mapping[str, jax.Array]]
"""(path, leaf as read) -> the leaves to keep in its place."""


def as_read(path: str, leaf: jax.Array) -> dict[str, jax.Array]:
    """The leaf itself."""
    return {path: leaf}


def load(
    tensors: Mapping[str, LeafTensors],
    targets: Mapping[str, jax.ShapeDtypeStruct],
    *,
    storage: Storage = as_stored,
    transform: Transform = as_read,
    progress: Progress | None = None,
) -> dict[str, jax.Array]:
    """Sends each tensor where it belongs (`targets`' shardings), reading it once. Calls `progress` with each path."""
    leaves: dict[str, jax.Array] = {}
    for path, target in targets.items():
        leaf = tensors[path]
        dtype = _dtype(leaf, path, storage)
        try:
            leaves |= transform(path, place(leaf.views, leaf.stacked, dtype, getattr(target, "sharding", None)))
        except NotFinite:
            # Only one process may hold the slice with it: the message names what is wrong here, or all of the leaf.
            odd = [n for n, view in zip(leaf.names, leaf.views, strict=True) if not finite(view.astype(dtype))]
            raise _not_finite(leaf.where, (odd or list(leaf.names))[0]) from None
        if progress:
            progress(path)
    return leaves


def lazy(tensors: Mapping[str, LeafTensors], *, storage: Storage = as_stored) -> dict[str, Lazy]:
    """The leaves as promises to read them, for going from file to file."""
    leaves = {}
    for path, f in tensors.items():
        dtype = _dtype(f, path, storage)
        shape = (len(f.views), *f.views[0].shape) if f.stacked else f.views[0].shape
        leaves[path] = Lazy(shape, dtype, f.stacked, functools.partial(_read, f, dtype))
    return leaves


def _read(tensors: LeafTensors, dtype: np.dtype, layer: int | None) -> np.ndarray:
    values = tensors.views[layer or 0].astype(dtype, copy=False)
    if not finite(values):
        raise _not_finite(tensors.where, tensors.names[layer or 0])
    return values


def _not_finite(where: str, name: str) -> UserError:
    return UserError(f"{where}: {name} holds infinity or NaN; take an earlier checkpoint, or export it again")


def _candidate(source: Source, path: str, shape: tuple[int, ...]) -> tuple[Source, tuple[str, ...]] | None:
    """The names under which `source` would hold a leaf, None if its kind of file does not hold it."""
    rule = source.layout.rule(path)
    if rule is None:
        return None
    return source, tuple(rule.at(i) for i in range(shape[0])) if rule.stacked else (_present(source, rule),)


def _views(source: Source, names: tuple[str, ...], path: str, shape: tuple[int, ...]) -> LeafTensors:
    rule = source.layout.rule(path)
    expected = rule.op.their_shape(shape[1:] if rule.stacked else shape)
    views = tuple(rule.op.ours(_tensor(source, name, rule, expected)) for name in names)
    return LeafTensors(names, views, rule.stacked, source.where)


def _present(source: Source, rule: Rule) -> str:
    """The name under which an unstacked tensor is there: its own, or one of its duplicates."""
    if rule.name in source.tensors:
        return rule.name
    duplicates = (name for name in source.tensors if (m := source.layout.match(name)) and m.rule is rule)
    return next(duplicates, rule.name)


def _tensor(source: Source, name: str, rule: Rule, expected: tuple[int, ...]) -> np.ndarray:
    tensor = source.tensors[name]
    if tensor.dtype not in FLOATS:
        raise UserError(
            f"{source.where}: {name} holds {tensor.dtype}; only float32, bfloat16 and float16 can be loaded"
        )
    weight = (len(expected) >= 2 or rule.path.endswith("/scale")) and not rule.path.endswith("/bias")
    # Exempt: biases (the Q-Former's self-attention query and key biases stay zero for ever), and lora_B, which is
    # checked as a whole: every one of them is zero in an adapter that is untrained or was scaled by zero.
    if weight and not rule.path.endswith("/lora_b") and _all_zero(tensor):
        raise UserError(f"{source.where}: {name} is all zero; the file was not written completely, export it again")
    if source.grows and rule.path in (EMBED.path, HEAD.path) and len(tensor) < expected[0]:
        extra = np.zeros((expected[0] - len(tensor), *tensor.shape[1:]), tensor.dtype)
        tensor = np.concatenate([tensor, extra])
    if tensor.shape != expected:
        raise UserError(
            f"{source.where}: {name} has shape {tuple(tensor.shape)}, but the config asks for {tuple(expected)}"
        )
    return tensor


def _all_zero(tensor: np.ndarray) -> bool:
    flat = tensor.reshape(-1)
    return not flat[:4096].any() and not flat.any()


class DuplicateCheck:
    """Tensors of a file that are one leaf of the model must be equal."""

    def __init__(self, where: str):
        self.where = where
        self._first: dict[Rule, tuple[str, np.ndarray]] = {}

    def add(self, rule: Rule, name: str, tensor: np.ndarray) -> None:
        """Adds the next tensor of `rule`. Raises UserError if it differs from the first."""
        first_name, first = self._first.setdefault(rule, (name, tensor))
        if not _same(first, tensor):
            raise UserError(f"{self.where}: {name} and {first_name} are one tensor in the model but differ in the file")


def _check_names(source: Source, targets: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    """Raises UserError for unknown names, duplicates that differ, and constants of the layout that differ."""
    buffers, duplicates, unknown = dict(source.layout.buffers), DuplicateCheck(source.where), []
    for name, tensor in source.tensors.items():
        if source.layout.is_buffer(name):
            if name in buffers and not _same(tensor, buffers[name]()):
                raise UserError(f"{source.where}: {name} is not the constant that {source.layout.title} has there")
            continue
        match = source.layout.match(name)
        target = match and targets.get(match.rule.path)
        if match is None or (match.layer is not None and target and match.layer >= target.shape[0]):
            unknown.append(name)
        elif not match.rule.stacked:
            duplicates.add(match.rule, name, tensor)
    if unknown:
        raise UserError(f"{source.where}: {_some(unknown)} is unknown to a {source.layout.title} of the given config")


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Equality row by row: no temporary as large as the tensor."""
    return a is b or (a.shape == b.shape and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True)))


def _check_adapter(tensors: Mapping[str, LeafTensors]) -> None:
    pairs = [
        (f.where, name, view)
        for path, f in tensors.items()
        if path.endswith("/lora_b")
        for name, view in zip(f.names, f.views, strict=True)
    ]
    zero = [(where, name) for where, name, view in pairs if _all_zero(view)]
    if zero and len(zero) < len(pairs):
        raise UserError(f"{zero[0][0]}: {zero[0][1]} is all zero while other lora_B are not; export the adapter again")


def _dtype(tensors: LeafTensors, path: str, storage: Storage) -> np.dtype:
    dtypes = [np.dtype(storage(path, view.dtype)) for view in tensors.views]
    if odd := next((n for n, d in zip(tensors.names, dtypes, strict=True) if d != dtypes[0]), None):
        raise UserError(f"{tensors.where}: {odd} and {tensors.names[0]} differ in type; convert the file to one type")
    return dtypes[0]


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return names[0] + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")


def build(cfg: NatureLMConfig, leaves: Mapping[str, jax.Array]) -> NatureLMModel:
    """A model that holds `leaves`, all of them, in the dtypes they have."""
    return filled(lambda: NatureLMModel(cfg, rngs=nnx.Rngs(0)), leaves)


def filled(make: Callable[[], Module], leaves: Mapping[str, jax.Array]) -> Module:
    """The module that `make` builds, with `leaves` for its parameters.

    Args:
      make: builds the module; its initializers are not run.
      leaves: path -> array of every parameter, in the dtype to keep.

    Returns:
      the module.

    Raises:
      UserError: a parameter without a leaf, or a leaf without a parameter.
    """
    graphdef, state = nnx.split(nnx.eval_shape(make))
    if odd := sorted(set(named_leaves(state)) ^ set(leaves)):
        raise UserError(f"{_some(odd)}: the weights do not fit the config, one has a parameter the other lacks")
    nnx.replace_by_pure_dict(state, nest(leaves))
    return nnx.merge(graphdef, state)
