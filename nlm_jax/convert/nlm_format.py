"""Our own directories: config.json ({"format": "nlm"}), model.safetensors under our paths, tokenizer/."""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping

import jax
import numpy as np

from nlm_jax.convert import table
from nlm_jax.convert.checkpoint import Checkpoint, Opened, language_model_in
from nlm_jax.convert.io import SINGLE, Entry, Progress, read_json, read_tensors, write_config, write_safetensors
from nlm_jax.convert.leaves import Source
from nlm_jax.convert.transfer import Leaf, fetch
from nlm_jax.convert.vocabulary import copy_tokenizer
from nlm_jax.core.config import build
from nlm_jax.core.errors import UserError
from nlm_jax.core.hub import model_path
from nlm_jax.models.config import NatureLMConfig, check

FORMAT, VERSION = "nlm", 1
TOKENIZER = "tokenizer"
"""Folder of the tokenizer, in an export of this format and in a run."""


def open_native(src: str | pathlib.Path) -> Opened:
    """A directory that `export_native` wrote: a whole model or a part of one.

    Raises:
      UserError: another format, or one of a newer version.
    """
    src = model_path(src)
    content = read_json(src / "config.json")
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise UserError(
            f"{src}: config.json is not of format {FORMAT!r} version {VERSION}; was it written by a newer nlm?"
        )
    if lacking := [name for name in ("config", "parts", "official", "llama") if name not in content]:
        raise UserError(f"{src}: config.json lacks {lacking[0]}; import or export the checkpoint again")
    cfg = check(build(NatureLMConfig, content["config"], f"{src}: config"), f"{src}: config")
    tensors = read_tensors(src)
    tokenizer = src / TOKENIZER if (src / TOKENIZER / "tokenizer.json").is_file() else None
    names = {
        name: content[name] for name in ("official", "llama", "base", "base_changed", "history") if name in content
    }
    opened = Opened(cfg, (), tuple(content["parts"]), tokenizer=tokenizer, **names)
    source = Source(str(src), tensors, table.native(opened.targets()))
    return dataclasses.replace(opened, sources=(source,))


def export_native(
    checkpoint: Checkpoint, out: pathlib.Path, *, dtype: str | None = None, progress: Progress | None = None
) -> tuple[str, ...]:
    """Everything a checkpoint holds, layers stacked as they are in the model."""
    storage = language_model_in(dtype)
    tensors = [
        Entry(
            path,
            tuple(leaf.shape),
            np.dtype(storage(path, np.dtype(leaf.dtype))),
            lambda path=path, leaf=leaf: parts(path, leaf),
        )
        for path, leaf in checkpoint.leaves.items()
    ]
    write_safetensors(out / SINGLE, tensors, None, progress)
    if jax.process_index() == 0:
        content: Mapping = {
            "format": FORMAT,
            "version": VERSION,
            "parts": checkpoint.parts,
            "config": dataclasses.asdict(checkpoint.config),
            "official": checkpoint.official,
            "llama": checkpoint.llama,
            "base": checkpoint.base,
            "base_changed": checkpoint.base_changed,
            "history": checkpoint.history,
        }
        write_config(out / "config.json", content)
        if checkpoint.tokenizer:
            copy_tokenizer(checkpoint.tokenizer, out / TOKENIZER)
    return ()


def parts(path: str, leaf: Leaf) -> Iterator[np.ndarray]:
    """A stacked leaf layer by layer, any other whole."""
    if "/layers/" not in path:
        yield fetch(leaf)
        return
    for i in range(leaf.shape[0]):
        yield fetch(leaf, i)[None]
