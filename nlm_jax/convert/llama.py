"""Hugging Face Llama directories in and out, with the adapter merged or as a PEFT directory."""

import dataclasses
import pathlib
import shutil

import jax
import numpy as np

from nlm_jax.convert import configs, table
from nlm_jax.convert.checkpoint import Checkpoint, Opened, entries, language_model_in
from nlm_jax.convert.hub import local
from nlm_jax.convert.io import Entry, Progress, read_json, read_tensors, write_json, write_safetensors, write_sharded
from nlm_jax.convert.load import Source
from nlm_jax.convert.lora import merge
from nlm_jax.convert.place import Lazy, Leaf, fetch
from nlm_jax.core.errors import UserError
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.models.llama.config import LlamaConfig

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
GENERATION = "generation_config.json"
FOR_TORCH = {"format": "pt"}
"""Header metadata that transformers and PEFT look for."""


def source(folder: pathlib.Path, cfg: LlamaConfig) -> Source:
    """The tensors of a Hugging Face directory; vocabulary rows it lacks become zero."""
    if not any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")):
        raise UserError(
            f"{folder}: holds no safetensors weights, and the checkpoint does not carry the whole language model; "
            "pass llm= (--llm) with a Hugging Face Llama directory that has them"
        )
    return Source(str(folder), read_tensors(folder), table.hugging_face(cfg), grows=True)


def open_llama(src: str | pathlib.Path, *, pad_rows: int = 1) -> Opened:
    """A Llama-family directory (or hub id), the language model alone: it fills `llama/` of a model without adapter.

    Args:
      src: directory with config.json and safetensors, one file or shards.
      pad_rows: rows added to the vocabulary for [PAD], as the reference does. They are zero here; the reference draws
        them at random, and trained checkpoints carry their own.

    Raises:
      UserError: not a Llama-family directory, or one with a RoPE scaling that is not supported.
    """
    folder = local(src)
    file = folder / "config.json" if folder.is_dir() else folder
    hf = read_json(file)
    cfg = configs.llama_config(hf, str(file), rows=hf.get("vocab_size", 0) + pad_rows)
    tokenizer = folder if (folder / "tokenizer.json").is_file() else None
    whole = NatureLMConfig(llama=cfg)
    return Opened(whole, (source(folder, cfg),), parts=("llama",), llama=hf, tokenizer=tokenizer)


def copy_tokenizer(checkpoint: Checkpoint, folder: pathlib.Path) -> None:
    """The tokenizer and generation settings that came with the language model, unchanged."""
    for name in (*TOKENIZER_FILES, GENERATION) if checkpoint.tokenizer else ():
        if (checkpoint.tokenizer / name).is_file():
            shutil.copyfile(checkpoint.tokenizer / name, folder / name)


def first_rows(leaf: Leaf, rows: int, axis: int) -> Leaf:
    """The vocabulary cut to its first `rows`, when it is read."""
    shape = tuple(rows if i == axis else size for i, size in enumerate(leaf.shape))
    cut = tuple(slice(rows) if i == axis else slice(None) for i in range(len(shape)))
    return Lazy(shape, np.dtype(leaf.dtype), False, lambda _: fetch(leaf)[cut])


def base_entries(checkpoint: Checkpoint, rows: int, dtype: str | None, *, merged: bool) -> list[Entry]:
    """The language model under Hugging Face's names, with `rows` of vocabulary, the adapter merged in or left out."""
    cfg = checkpoint.config.llama
    leaves = {path: leaf for path, leaf in checkpoint.leaves.items() if path.startswith("llama/")}
    if merged and cfg.lora:
        leaves = merge(leaves, cfg.lora)
    for rule, axis in ((table.EMBED, 0), (table.HEAD, 1)):
        if rule.path in leaves and rows < cfg.vocab:
            leaves[rule.path] = first_rows(leaves[rule.path], rows, axis)
    return entries(leaves, table.hugging_face(cfg), language_model_in(dtype))


def write_base(checkpoint: Checkpoint, folder: pathlib.Path, *, dtype, progress, max_shard_bytes) -> None:
    """The language model as it was before the adapter and without [PAD]."""
    rows = checkpoint.config.llama.vocab - checkpoint.pad_rows
    made = base_entries(checkpoint, rows, dtype, merged=False)
    write_sharded(folder, made, FOR_TORCH, progress, max_shard_bytes)


def export_merged(
    checkpoint: Checkpoint,
    out: pathlib.Path,
    *,
    dtype: str | None = None,
    pad_row: bool = True,
    progress: Progress | None = None,
    max_shard_bytes: int = 5 * 10**9,
) -> None:
    """A directory for `AutoModelForCausalLM`, the adapter merged into the weights.

    `pad_row=False` leaves the appended [PAD] row out, which gives the sizes of the original language model.
    """
    cfg = dataclasses.replace(checkpoint.config.llama, lora=None)
    rows = cfg.vocab if pad_row else cfg.vocab - checkpoint.pad_rows
    made = base_entries(checkpoint, rows, dtype, merged=True)
    write_sharded(out, made, FOR_TORCH, progress, max_shard_bytes)
    if jax.process_index() == 0:
        own = configs.llama_json(cfg, checkpoint.llama, rows=rows)
        types = {entry.dtype.name for entry in made}
        write_json(out / "config.json", own | {"torch_dtype": "float32" if "float32" in types else min(types)})
        copy_tokenizer(checkpoint, out)


def export_peft(
    checkpoint: Checkpoint, out: pathlib.Path, *, dtype: str | None = None, progress: Progress | None = None
) -> None:
    """A directory for `PeftModel.from_pretrained`: the adapter alone, to go on the original language model."""
    lora = checkpoint.config.llama.lora
    if lora is None:
        raise UserError("export --format peft: the checkpoint has no LoRA adapter; use --format llama-merged")
    made = entries(checkpoint.leaves, table.peft(), language_model_in(dtype))
    write_safetensors(out / "adapter_model.safetensors", made, FOR_TORCH, progress)
    if jax.process_index() == 0:
        base = checkpoint.official.get("llama_path") or ""
        write_json(out / "adapter_config.json", configs.adapter_json(lora, base))
