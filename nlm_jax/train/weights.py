"""Initial weights of a run: opens the sources that the config names, derives the model's config, fills a state.

Priority, leaf by leaf: (1) the run's own checkpoint, (2) another run, such as stage 1's, (3) a whole model, (4) base
weights: a Llama and a BEATs, (5) random values from the seed.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from nlm_jax.audio.config import AudioConfig
from nlm_jax.convert.checkpoint import Opened
from nlm_jax.convert.formats import kind_of, open_checkpoint
from nlm_jax.convert.leaves import Transform
from nlm_jax.convert.open_run import OpenedRun
from nlm_jax.core.config import build
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import read_json
from nlm_jax.core.tree import named_leaves
from nlm_jax.data.shard_cache import local_index
from nlm_jax.data.text import Tokenizer
from nlm_jax.models.config import NatureLMConfig, check
from nlm_jax.models.presets import preset
from nlm_jax.nn.int8 import quantize, scale_path
from nlm_jax.train.config import Init, TrainConfig, model_fields
from nlm_jax.train.state import TrainState

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Weights:
    """The opened sources of a run's weights. Nothing is loaded yet."""

    model: NatureLMConfig
    opened: tuple[Opened, ...]
    """The sources, in order of preference."""
    imports: tuple[dict[str, Any], ...]
    """Arguments of `open_checkpoint` that open the imported ones again, for `run.json`."""
    tokenizer: str
    trained_before: tuple[str, ...] = ()
    """Paths of leaves that an earlier run trained: the imports have other values."""

    def source_config(self, name: str) -> dict[str, Any]:
        """The config called `name` ("official" or "llama") that came with a source; empty if none has it."""
        return next((dict(getattr(o, name)) for o in self.opened if getattr(o, name)), {})

    def importable(self) -> set[str]:
        """Paths of leaves that can be loaded from `imports` again with the same values."""
        files = (o for o in self.opened if not isinstance(o, OpenedRun))
        return {path for o in files for path in o.targets()} - set(self.trained_before)

    def load(self, targets: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
        """Loads the leaves of `targets` that a source has, streamed to the shardings and dtypes of `targets`.

        Returns:
          path -> leaf; leaves that no source has are missing.
        """
        leaves: dict[str, jax.Array] = {}
        for opened in self.opened:
            missing = {p: targets[p] for p in opened.targets() if p in targets and p not in leaves}
            if missing:
                dtype, quantized = functools.partial(read_dtype, targets), quantize_to(targets)
                leaves |= opened.load(missing, storage=dtype, transform=quantized).leaves
        return leaves


def read_dtype(targets: Mapping[str, jax.ShapeDtypeStruct], path: str, _) -> np.dtype:
    """Dtype in which a leaf is read: its target's, or bfloat16 if that is int8, to which it is quantized then."""
    dtype = np.dtype(targets[path].dtype)
    return np.dtype(jnp.bfloat16) if dtype == np.int8 else dtype


def quantize_to(targets: Mapping[str, jax.ShapeDtypeStruct]) -> Transform:
    """A function of (path, leaf as read) that gives integers and scales if the target is int8, else the leaf itself."""

    def convert(path: str, leaf: jax.Array) -> dict[str, jax.Array]:
        if targets[path].dtype != jnp.int8:
            return {path: leaf}
        scale = scale_path(path)
        quantized = jax.jit(quantize, out_shardings=(targets[path].sharding, targets[scale].sharding))(leaf)
        return dict(zip((path, scale), jax.block_until_ready(quantized), strict=True))  # the leaf can be freed now

    return convert


def open_weights(config: TrainConfig) -> Weights:
    """Opens every source that the config names.

    Raises:
      UserError: a source that does not exist or does not fit, a tokenizer larger than the model's vocabulary.
    """
    init, opened, imports, tokenizer = config.init, [], [], config.tokenizer
    if init.run:
        run = open_checkpoint(init.run, "run", which=init.run_which)
        opened, imports = [run, *(open_checkpoint(**entry) for entry in run.imports)], list(run.imports)
        tokenizer = tokenizer or str(run.tokenizer or "")
    for field, entry in import_entries(init).items():
        one = open_checkpoint(**entry)
        tokenizer = tokenizer or str(one.tokenizer or "")
        if field in PARTS and one.parts != (PARTS[field],):
            raise UserError(
                f"config.init.{field}={entry['src']}: holds {', '.join(one.parts)}; give a whole model as "
                "config.init.naturelm, a run as config.init.run"
            )
        if entry["kind"] == "llama":
            entry |= {"pad_rows": pad_rows(one, tokenizer)}
            one = open_checkpoint(**entry)
        opened.append(one)
        imports.append(entry)
    tokenizer = tokenizer or "embedded"
    model = resolve_model(config, opened, Tokenizer.from_pretrained(tokenizer).vocab_size)
    model = dataclasses.replace(model, audio=audio_of_data(config, model.audio))
    trained = opened[0].trained if opened and isinstance(opened[0], OpenedRun) else ()
    return Weights(model, tuple(opened), tuple(imports), tokenizer, trained)


PARTS = {"llama": "llama", "beats": "beats"}
"""Field of `Init` -> the part of a model that it provides."""


def import_entries(init: Init) -> dict[str, dict[str, Any]]:
    """Field of `init` -> arguments of `open_checkpoint`, in order of preference. Local paths become absolute."""
    entries = {}
    if init.naturelm:
        options = {"llm": init.llm, "config": init.config}
        options = {name: absolute(value) for name, value in options.items() if value}
        entries["naturelm"] = {"src": absolute(init.naturelm), "kind": "auto"} | options
    for field in PARTS:
        if src := absolute(getattr(init, field)):
            kind = kind_of(src)  # an imported part keeps its kind; a whole model is refused later, with its parts
            entries[field] = {"src": src, "kind": kind if kind in ("nlm", "naturelm", "run") else field}
    return entries


def pad_rows(llama: Opened, tokenizer: str) -> int:
    """Rows to append to the vocabulary of a Hugging Face Llama: 0 if `tokenizer`, [PAD] included, fits already."""
    own = llama.llama["vocab_size"]
    fits = Tokenizer.from_pretrained(tokenizer or "embedded").vocab_size <= own
    return 0 if fits else llama.config.llama.vocab - own


def absolute(name: str) -> str:
    """An existing path as an absolute one; hub ids are unchanged."""
    return str(Path(name).absolute()) if name and Path(name).exists() else name


def resolve_model(config: TrainConfig, opened: list[Opened], vocab_size: int) -> NatureLMConfig:
    """The model's config: the preset, then the sizes of what is imported, then the settings of `config.model`.

    Args:
      config: of the run.
      opened: the sources of weights, in order of preference.
      vocab_size: number of tokens of the tokenizer; rows of a language model that is not imported.

    Raises:
      UserError: an impossible size, an override of `audio`, a tokenizer larger than the vocabulary.
    """
    setup = config.model
    model = preset(setup.preset)
    if not any("llama" in o.parts for o in opened):
        model = dataclasses.replace(model, llama=dataclasses.replace(model.llama, vocab=vocab_size))
    for one in reversed(opened):
        if {"beats", "qformer", "llama"} <= set(one.parts):
            lora = one.config.llama.lora or model.llama.lora
            model = dataclasses.replace(one.config, llama=dataclasses.replace(one.config.llama, lora=lora))
        elif "llama" in one.parts:
            model = dataclasses.replace(model, llama=dataclasses.replace(one.config.llama, lora=model.llama.lora))
        else:
            model = dataclasses.replace(model, **{p: getattr(one.config, p) for p in one.parts if hasattr(model, p)})
    if "audio" in setup.overrides:
        raise UserError(
            "config.model.overrides: audio follows from the data; set data.seconds, and --quality of nlm prepare"
        )
    changes = {name: getattr(setup, name) for name in model_fields()} | setup.overrides
    model = build(NatureLMConfig, merge(dataclasses.asdict(model), changes), "config.model.overrides")
    check(model, "config.model")
    if vocab_size > model.llama.vocab:
        raise UserError(
            f"config.tokenizer: has {vocab_size} tokens but the language model only {model.llama.vocab} rows; "
            "use the tokenizer that belongs to it, or nlm import it with more --pad-rows"
        )
    return model


def audio_of_data(config: TrainConfig, imported: AudioConfig) -> AudioConfig:
    """The audio config of the last stage's clips: its `data.seconds`, and the resampling quality of `nlm prepare`.

    Args:
      config: of the run.
      imported: audio config of the imported weights, used if no manifest records how its data was resampled.
    """
    data = config.stages[-1].data
    files = {directory: local_index(directory) / "manifest.json" for directory in data.train}
    qualities = {d: read_json(f).get("audio", {}).get("quality") for d, f in files.items() if f.is_file()}
    first, *others = dict.fromkeys(filter(None, qualities.values())) or (imported.quality,)
    if others:
        log.warning(
            "data.train: resampled with --quality %s in some directories and %s in others; files are read with %s",
            first,
            ", ".join(others),
            first,
        )
    return AudioConfig(data.seconds, first)


def merge(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`values` updated with `changes`, level by level."""
    merged = dict(values)
    for name, change in changes.items():
        deeper = isinstance(change, Mapping) and isinstance(merged.get(name), dict)
        merged[name] = merge(merged[name], change) if deeper else change
    return merged


def init_missing(
    build: Callable[[], nnx.Module], targets: Mapping[str, jax.ShapeDtypeStruct], params: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """Path -> leaf for every path of `targets`: from `params`, with the target's dtype and sharding, else random.

    Only missing leaves are computed, on their own shardings: no random 8B is drawn to be dropped.

    Args:
      build: the model with random weights.
      targets: path -> shape, dtype and sharding.
      params: path -> leaf of what has been loaded.
    """
    missing = tuple((path, target) for path, target in targets.items() if path not in params)
    leaves = dict(_random_leaves(build, missing)()) if missing else {}
    for path, target in targets.items():
        if path not in leaves:
            leaves[path] = jax.device_put(cast(params[path], target.dtype), target.sharding)
    return leaves


@functools.lru_cache(maxsize=8)
def _random_leaves(build: Callable[[], nnx.Module], missing: tuple[tuple[str, jax.ShapeDtypeStruct], ...]) -> Callable:
    """Compiled function that draws the leaves of `missing`."""

    def draw():
        drawn = named_leaves(nnx.state(build()))
        return {path: drawn[path].astype(target.dtype) for path, target in missing}

    return jax.jit(draw, out_shardings={path: target.sharding for path, target in missing})


@functools.partial(jax.jit, static_argnames="dtype")
def _cast(leaf, dtype):
    return leaf.astype(dtype)


def cast(leaf: jax.Array, dtype) -> jax.Array:
    """`leaf` in `dtype`, on its own sharding."""
    return leaf if leaf.dtype == dtype else _cast(leaf, dtype)


def params_of(state: TrainState) -> dict[str, jax.Array]:
    """Path -> leaf of the whole model of a state."""
    return named_leaves(state.frozen) | named_leaves(state.trainable)
