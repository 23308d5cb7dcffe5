"""Where a run's weights come from: opens what the config names, settles the model's sizes, and fills a state.

Priority, leaf by leaf: (1) the run's own checkpoint, (2) another run, such as stage 1's, (3) a whole model, (4) base
weights: a Llama and a BEATs, (5) random numbers from the seed.
"""

import dataclasses
import functools
import logging
import shutil
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
from nlm_jax.convert.leaves import Kept
from nlm_jax.convert.open_run import OpenedRun
from nlm_jax.convert.vocabulary import GENERATION, TOKENIZER_FILES
from nlm_jax.core.config import build
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import read_json
from nlm_jax.core.tree import named_leaves
from nlm_jax.data.shard_cache import index
from nlm_jax.data.text import Tokenizer
from nlm_jax.models.config import NatureLMConfig, check
from nlm_jax.models.presets import preset
from nlm_jax.nn.int8 import quantize, scale_path
from nlm_jax.train.config import Init, TrainConfig
from nlm_jax.train.state import TrainState

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Weights:
    """What was opened for a run. Nothing is loaded yet."""

    model: NatureLMConfig
    opened: tuple[Opened, ...]
    imports: tuple[dict[str, Any], ...]
    """How to open them again, for `run.json`."""
    tokenizer: str
    changed: tuple[str, ...] = ()
    """Paths that an earlier run trained: they cannot be had from the imports."""

    def carried(self, name: str) -> dict[str, Any]:
        """`official` or `llama`: the configs that came with the imports."""
        return next((dict(getattr(o, name)) for o in self.opened if getattr(o, name)), {})

    def importable(self) -> set[str]:
        """Paths whose weights the imports of `run.json` give again, as they are here."""
        files = (o for o in self.opened if not isinstance(o, OpenedRun))
        return {path for o in files for path in o.targets()} - set(self.changed)

    def load(self, targets: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
        """The leaves of `targets` that an import has, streamed to the shardings and dtypes of `targets`."""
        leaves: dict[str, jax.Array] = {}
        for opened in self.opened:
            wanted = {p: targets[p] for p in opened.targets() if p in targets and p not in leaves}
            if wanted:
                leaves |= opened.load(wanted, storage=functools.partial(read_as, targets), kept=as_int8(targets)).leaves
        return leaves


def read_as(targets: Mapping[str, jax.ShapeDtypeStruct], path: str, _) -> np.dtype:
    """Dtype to read a leaf in: its own, or bfloat16 where int8 is made of it."""
    dtype = np.dtype(targets[path].dtype)
    return np.dtype(jnp.bfloat16) if dtype == np.int8 else dtype


def as_int8(targets: Mapping[str, jax.ShapeDtypeStruct]) -> Kept:
    """What is kept of a leaf that was read: integers and scales where `targets` wants int8, else the leaf itself."""

    def kept(path: str, leaf: jax.Array) -> dict[str, jax.Array]:
        if targets[path].dtype != jnp.int8:
            return {path: leaf}
        scale = scale_path(path)
        made = jax.jit(quantize, out_shardings=(targets[path].sharding, targets[scale].sharding))(leaf)
        return dict(zip((path, scale), jax.block_until_ready(made), strict=True))  # the leaf itself can go now

    return kept


def open_weights(config: TrainConfig) -> Weights:
    """Opens every import the config names.

    Raises:
      UserError: a path that is not there or does not fit, a tokenizer larger than the language model's vocabulary.
    """
    init, opened, imports, tokenizer = config.init, [], [], config.tokenizer
    if init.run:
        run = open_checkpoint(init.run, "run", which=init.run_which)
        opened, imports = [run, *(open_checkpoint(**entry) for entry in run.imports)], list(run.imports)
        tokenizer = tokenizer or str(run.tokenizer or "")
    for field, entry in entries(init).items():
        one = open_checkpoint(**entry)
        tokenizer = tokenizer or str(one.tokenizer or "")
        if field in PARTS and one.parts != (PARTS[field],):
            raise UserError(
                f"config.init.{field}={entry['src']}: holds {', '.join(one.parts)}; give a whole model as "
                "config.init.naturelm, a run as config.init.run"
            )
        if entry["kind"] == "llama":
            entry |= {"pad_rows": appended(one, tokenizer)}
            one = open_checkpoint(**entry)
        opened.append(one)
        imports.append(entry)
    tokenizer = tokenizer or "embedded"
    model = settle(config, opened, Tokenizer.from_pretrained(tokenizer).vocab_size)
    model = dataclasses.replace(model, audio=audio_of_data(config, model.audio))
    changed = opened[0].trained if opened and isinstance(opened[0], OpenedRun) else ()
    return Weights(model, tuple(opened), tuple(imports), tokenizer, changed)


PARTS = {"llama": "llama", "beats": "beats"}
"""Field of `Init` -> the one part of a model that it takes."""


def entries(init: Init) -> dict[str, dict[str, Any]]:
    """Field of `init` -> arguments of `open_checkpoint`, in order of preference. Local paths become absolute."""
    made = {}
    if init.naturelm:
        beside = {"llm": init.llm, "config": init.config}
        options = {k: absolute(v) for k, v in beside.items() if v}
        made["naturelm"] = {"src": absolute(init.naturelm), "kind": "auto"} | options
    for field in PARTS:
        if src := absolute(getattr(init, field)):
            kind = kind_of(src)  # a part may have been imported; of a whole model the parts will be named
            made[field] = {"src": src, "kind": kind if kind in ("nlm", "naturelm", "run") else field}
    return made


def appended(llama: Opened, tokenizer: str) -> int:
    """Rows that the vocabulary of a Hugging Face Llama gets: none where `tokenizer`, [PAD] included, fits as it is."""
    own = llama.llama["vocab_size"]
    fits = Tokenizer.from_pretrained(tokenizer or "embedded").vocab_size <= own
    return 0 if fits else llama.config.llama.vocab - own


def absolute(name: str) -> str:
    """A path that stays true from another directory; hub ids are left as they are."""
    return str(Path(name).absolute()) if name and Path(name).exists() else name


def settle(config: TrainConfig, opened: list[Opened], vocab_size: int) -> NatureLMConfig:
    """The model's config: the preset, the sizes of what is imported, then the config's own settings."""
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
    own = {name: getattr(setup, name) for name in ("compute_dtype", "remat", "attention", "max_txt_len")}
    model = build(NatureLMConfig, merge(dataclasses.asdict(model), own | setup.overrides), "config.model.overrides")
    check(model, "config.model")
    if vocab_size > model.llama.vocab:
        raise UserError(
            f"config.tokenizer: has {vocab_size} tokens but the language model only {model.llama.vocab} rows; "
            "use the tokenizer that belongs to it, or nlm import it with more --pad-rows"
        )
    return model


def audio_of_data(config: TrainConfig, imported: AudioConfig) -> AudioConfig:
    """How the last stage's clips are made: of its `data.seconds`, resampled as `nlm prepare` did.

    Args:
      imported: of the weights the run starts from; counts where no manifest says how its data was resampled.
    """
    data = config.stages[-1].data
    files = {directory: index(directory) / "manifest.json" for directory in data.train}
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
    """`values` with `changes` written over it, level by level."""
    merged = dict(values)
    for name, change in changes.items():
        deeper = isinstance(change, Mapping) and isinstance(merged.get(name), dict)
        merged[name] = merge(merged[name], change) if deeper else change
    return merged


def complete(
    build: Callable[[], nnx.Module], targets: Mapping[str, jax.ShapeDtypeStruct], params: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """Path -> leaf for every path of `targets`: from `params`, moved and cast as wanted, else random from `build`.

    Only what is missing is computed, in place: no random 8B is drawn to be thrown away.
    """
    missing = {path: target for path, target in targets.items() if path not in params}
    made: dict[str, jax.Array] = {}
    if missing:

        def draw():
            drawn = named_leaves(nnx.state(build()))
            return {path: drawn[path].astype(target.dtype) for path, target in missing.items()}

        made = jax.jit(draw, out_shardings={path: target.sharding for path, target in missing.items()})()
    for path, target in targets.items():
        if path not in made:
            made[path] = jax.device_put(cast(params[path], target.dtype), target.sharding)
    return made


@functools.partial(jax.jit, static_argnames="dtype")
def _cast(leaf, dtype):
    return leaf.astype(dtype)


def cast(leaf: jax.Array, dtype) -> jax.Array:
    """`leaf` in `dtype`, where it is."""
    return leaf if leaf.dtype == dtype else _cast(leaf, dtype)


def copy_tokenizer(source: str, target: Path) -> None:
    """The tokenizer's own files unchanged, where it is a directory; otherwise as Hugging Face would save it."""
    target.mkdir(parents=True, exist_ok=True)
    if not (Path(source) / "tokenizer.json").is_file():
        Tokenizer.from_pretrained(source).save(target)
        return
    for name in (*TOKENIZER_FILES, GENERATION):
        if (Path(source) / name).is_file():
            shutil.copyfile(Path(source) / name, target / name)


def params_of(state: TrainState) -> dict[str, jax.Array]:
    """Path -> leaf of the whole model of a state."""
    return named_leaves(state.frozen) | named_leaves(state.trainable)
