"""Every format by name: what a path holds, opening it, and writing a checkpoint."""

import dataclasses
import pathlib
import shutil
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax

from nlm_jax.audio.config import AudioConfig
from nlm_jax.convert import audio
from nlm_jax.convert.beats import export_beats, open_beats
from nlm_jax.convert.card import write_card
from nlm_jax.convert.checkpoint import PARTS, Checkpoint, Opened
from nlm_jax.convert.io import Progress, read_json
from nlm_jax.convert.llama import export_merged, export_peft, open_llama
from nlm_jax.convert.lora import interpolate
from nlm_jax.convert.naturelm import export_naturelm, open_naturelm
from nlm_jax.convert.nlm_format import export_native, open_native
from nlm_jax.convert.open_run import OpenedRun, open_run
from nlm_jax.convert.run_file import audio_of, find_checkpoint, is_run, read_run
from nlm_jax.convert.torch_file import read_torch
from nlm_jax.core.config import build, unknown
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import PART
from nlm_jax.core.hub import model_path
from nlm_jax.models.config import NatureLMConfig


def _open_import(entry: Mapping[str, Any], model: NatureLMConfig, parts: Collection[str]) -> Opened:
    """An import of a run, limited to `parts`; a language model or an encoder that is not among them is not opened."""
    kind = entry.get("kind", "auto")
    if kind in PARTS and kind not in parts:
        return Opened(model, (), parts=(kind,))
    kind = kind_of(entry["src"]) if kind == "auto" else kind
    narrowed = kind in ("naturelm", "run") and not set(PARTS) <= set(parts)
    return open_checkpoint(**{**entry, "kind": kind}, parts=parts if narrowed else None)


def _open_run(src: str | pathlib.Path, **options: Any) -> OpenedRun:
    return open_run(src, open_import=_open_import, **options)


OPENERS: dict[str, Callable[..., Opened]] = {
    "naturelm": open_naturelm,
    "nlm": open_native,
    "run": _open_run,
    "llama": open_llama,
    "beats": open_beats,
}
MARKS = ("config.json", "adapter_config.json")
"""Files by which a directory is known for a checkpoint."""
KINDS = tuple(OPENERS)
"""Readable formats: official checkpoints, our own, the working directory of a training run, and the parts."""
FORMATS: dict[str, tuple[Callable[..., tuple[str, ...]], tuple[str, ...]]] = {
    "naturelm": (export_naturelm, PARTS),
    "peft": (export_peft, ("llama",)),
    "llama-merged": (export_merged, ("llama",)),
    "beats": (export_beats, ("beats",)),
    "nlm": (export_native, ()),
}
"""Writable formats: the function, and the parts a checkpoint must have for it."""


def kind_of(src: str | pathlib.Path) -> str:
    """Which of `KINDS` a path holds, from its config.json or its keys.

    Raises:
      UserError: none of them.
    """
    path = model_path(src)
    if path.is_file():
        content = read_torch(path) if path.suffix in (".pt", ".pth") else {}
        return "beats" if isinstance(content, Mapping) and "cfg" in content else "naturelm"
    if is_run(path):
        return "run"
    if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        raise UserError(f"{path}: is a PEFT adapter alone; open the checkpoint that it was exported from")
    config = read_json(path / "config.json")
    if config.get("format") == "nlm":
        return "nlm"
    if "beats_cfg" in config or "llama_path" in config:
        return "naturelm"
    if "cfg" in config:
        return "beats"
    if "model_type" in config:
        return "llama"
    raise UserError(
        f"{path / 'config.json'}: not a config of an official NatureLM, a Llama, BEATs or our own checkpoint"
    )


def open_checkpoint(
    src: str | pathlib.Path, kind: str = "auto", *, parts: Collection[str] | None = None, **options: Any
) -> Opened:
    """Opens whatever `src` is.

    Args:
      src: directory, file or hub id.
      kind: one of `KINDS`, looked up by default.
      parts: those wanted, of `PARTS`; only their files need to be there, and only their tensors are checked and read.
        Everything that `src` holds by default.
      options: those of `open_naturelm`, `open_llama` and `open_run`; None counts as not given.

    Raises:
      UserError: nothing there that can be read, an option that does not go with its kind, a part that is not there.
    """
    kind = kind_of(src) if kind == "auto" else kind
    options = {name: value for name, value in options.items() if value is not None}
    allowed = {"naturelm": ("llm", "base", "config", "qformer_config"), "llama": ("pad_rows",), "run": ("which",)}
    if kind not in KINDS:
        raise UserError(f"kind={kind!r}: {unknown(kind, KINDS)}")
    if odd := sorted(set(options) - set(allowed.get(kind, ()))):
        raise UserError(f"{src}: is of kind {kind}, which takes no {' and no '.join(odd)}; leave it out")
    if parts is None:
        return OPENERS[kind](src, **options)
    narrowed = {"parts": parts} if kind in ("naturelm", "run") else {}
    return OPENERS[kind](src, **options, **narrowed).only(parts)


def audio_config(src: str | pathlib.Path) -> AudioConfig:
    """How clips are made for the checkpoint `src`, from its config alone: no weights are read or fetched.

    Raises:
      UserError: as `kind_of`.
    """
    path = model_path(src, weights=False)
    if is_run(path):
        run = read_run(path)
        saved = find_checkpoint(path, run.stages, "best")
        return audio_of(run, saved.parent.parent.name) if saved else run.model.audio
    file = (path if path.is_dir() else path.parent) / "config.json"
    content = read_json(file) if path.is_dir() or file.is_file() else {}
    if content.get("format") == "nlm":
        return build(AudioConfig, content.get("config", {}).get("audio", {}), f"{file}: config.audio")
    return audio.audio_config(content, str(file))


def save(
    checkpoint: Checkpoint,
    out: str | pathlib.Path,
    format: str = "naturelm",
    *,
    merging_alpha: float = 1.0,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> tuple[str, ...]:
    """Writes `checkpoint` to the directory `out`, which appears whole or not at all. Needs no torch.

    Args:
      checkpoint: weights on host, device or mesh (then every process must call this), or lazy ones.
      out: a directory that is new or empty, unless `overwrite`.
      format: a name of `FORMATS`.
      merging_alpha: see `interpolate`; multiplies on top of what was given at load.
      progress: called with the name of each tensor.
      options: `dtype` (of the language model; all formats), `pad_row` (llama-merged), `with_base` and `llama_path`
        (naturelm, peft), `max_shard_bytes` (of a language model).

    Returns:
      sentences about what a reader needs besides the directory.

    Raises:
      UserError: an unknown format, a checkpoint without the parts it needs, or a directory that is in use.
    """
    out = pathlib.Path(out)
    if format not in FORMATS:
        raise UserError(f"format={format!r}: {unknown(format, FORMATS)}")
    write, needed = FORMATS[format]
    if lacking := [part for part in needed if part not in checkpoint.parts]:
        raise UserError(
            f"format {format}: the checkpoint holds no {', '.join(lacking)}, only {', '.join(checkpoint.parts)}"
        )
    check_free(out, overwrite)
    leaves = interpolate(dict(checkpoint.leaves), merging_alpha)
    unfinished = out.resolve().with_name(out.resolve().name + PART)
    if jax.process_index() == 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    checkpoint = dataclasses.replace(checkpoint, leaves=leaves)
    try:
        notes = write(checkpoint, unfinished, progress=progress, **options)
        if jax.process_index() == 0:
            write_card(checkpoint, unfinished, out.resolve().name, format, notes)
    except BaseException:
        if jax.process_index() == 0:
            shutil.rmtree(unfinished, ignore_errors=True)
        raise
    if jax.process_index() == 0:
        if out.exists():
            shutil.rmtree(out)
        unfinished.rename(out)
    return notes


def check_free(out: pathlib.Path, overwrite: bool) -> None:
    """Raises UserError when `out` is a file, or a directory with something in it and `overwrite` is not set.

    Even then only a checkpoint is replaced: a slip such as --out ~ must not cost anyone their files.
    """
    if out.is_file():
        raise UserError(f"{out}: is a file; give a directory")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise UserError(f"{out}: is not empty; give another directory, or --overwrite to replace what is in it")
    if out.is_dir() and any(out.iterdir()) and not any((out / name).is_file() for name in MARKS):
        raise UserError(f"{out}: holds no checkpoint, so --overwrite leaves it alone; give another directory")
