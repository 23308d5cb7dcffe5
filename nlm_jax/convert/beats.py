"""Microsoft's BEATs checkpoints."""

import pathlib

import jax
import numpy as np

from nlm_jax.convert import configs, table
from nlm_jax.convert.checkpoint import Checkpoint, Opened, duplicates, entries
from nlm_jax.convert.io import (
    SINGLE,
    Progress,
    read_json,
    read_tensors,
    to_torch,
    write_config,
    write_safetensors,
)
from nlm_jax.convert.leaves import Source
from nlm_jax.convert.torch_file import read_torch, state_dict
from nlm_jax.core.errors import UserError
from nlm_jax.core.hub import model_path
from nlm_jax.models.config import NatureLMConfig, check

TORCH_FILE = "beats.pt"


def open_beats(src: str | pathlib.Path) -> Opened:
    """Microsoft's `.pt` ({"cfg", "model"}), or our own export of an encoder (config.json + model.safetensors).

    Raises:
      UserError: neither, or a variant of BEATs that the model here does not have.
    """
    src = model_path(src)
    if src.is_dir():
        cfg, tensors = read_json(src / "config.json").get("cfg"), read_tensors(src)
    else:
        content = read_torch(src)
        cfg, tensors = (content.get("cfg"), content.get("model")) if isinstance(content, dict) else (None, None)
    if not isinstance(cfg, dict) or not isinstance(tensors, dict):
        raise UserError(f"{src}: not a BEATs checkpoint; Microsoft's hold 'cfg' and 'model'")
    config = configs.beats_config(cfg, f"{src}: cfg")
    tensors = state_dict(tensors, str(src))
    sources = (Source(str(src), tensors, table.microsoft(config)),)
    return Opened(
        check(NatureLMConfig(beats=config), f"{src}: cfg"), sources, parts=("beats",), official={"beats_cfg": cfg}
    )


def export_beats(
    checkpoint: Checkpoint, out: pathlib.Path, *, dtype: str | None = None, progress: Progress | None = None
) -> tuple[str, ...]:
    """The encoder as config.json + model.safetensors, and as Microsoft's `beats.pt` if torch is installed."""
    cfg = configs.beats_json(checkpoint.config.beats, checkpoint.official.get("beats_cfg"))
    layout, layers = table.microsoft(checkpoint.config.beats), checkpoint.config.beats.layers
    storage = (lambda path, own: own) if dtype is None else (lambda path, own: np.dtype("float32"))
    tensors = entries(checkpoint.leaves, layout, storage)
    write_safetensors(out / SINGLE, tensors, duplicates(layout, layers), progress)
    if jax.process_index() == 0:
        write_config(out / "config.json", {"cfg": cfg})
    if jax.process_index() == 0:
        try:
            import torch
        except ImportError:  # plain installations have none
            return ()
        state = {name: to_torch(view) for name, view in read_tensors(out).items()}
        state |= {name: state[original] for name, original in duplicates(layout, layers).items()}
        torch.save({"cfg": cfg, "model": state}, out / TORCH_FILE)
    return ()
