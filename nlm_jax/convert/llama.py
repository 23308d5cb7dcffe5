"""Hugging Face Llama directories in and out, with the adapter merged or as a PEFT directory."""

import dataclasses
import pathlib
from collections.abc import Sequence

import jax
import numpy as np

from nlm_jax.convert import configs, table
from nlm_jax.convert.checkpoint import Checkpoint, Opened, entries, language_model_in, published
from nlm_jax.convert.io import (
    INDEX,
    SINGLE,
    Entry,
    Progress,
    read_json,
    read_tensors,
    write_config,
    write_safetensors,
    write_sharded,
)
from nlm_jax.convert.leaves import Source
from nlm_jax.convert.lora import merge
from nlm_jax.convert.transfer import Lazy, Leaf, fetch
from nlm_jax.convert.vocabulary import write_tokenizer
from nlm_jax.core.errors import UserError
from nlm_jax.core.hub import absolute, is_id, model_path
from nlm_jax.data.text import Tokenizer
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.models.llama.config import LlamaConfig

BASE_FOLDER = "base"
"""Where a PEFT directory holds the language model that the adapter applies to, if it has one."""
FOR_TORCH = {"format": "pt"}
"""Header metadata that transformers and PEFT look for."""


def source(folder: pathlib.Path, cfg: LlamaConfig) -> Source:
    """The tensors of a Hugging Face directory; vocabulary rows it lacks become zero."""
    if not any((folder / name).is_file() for name in (SINGLE, INDEX)):
        raise UserError(
            f"{folder}: holds no safetensors weights, and the checkpoint does not carry the whole language model; "
            "pass llm= (--llm) with a Hugging Face Llama directory that has them"
        )
    return Source(str(folder), read_tensors(folder), table.hugging_face(cfg), grows=True)


def open_llama(src: str | pathlib.Path, *, pad_rows: int | None = None) -> Opened:
    """A Llama-family directory (or hub id), the language model alone: it fills `llama/` of a model without adapter.

    Args:
      src: directory with config.json and safetensors, one file or shards.
      pad_rows: rows added to the vocabulary for [PAD], as the reference does; by default what its tokenizer with
        [PAD] needs, one if it has none. They are zero here; the reference draws them at random, and trained checkpoints
        carry their own.

    Raises:
      UserError: not a Llama-family directory, or one with a RoPE scaling that is not supported.
    """
    folder = model_path(src)
    file = folder / "config.json" if folder.is_dir() else folder
    hf = read_json(file)
    tokenizer = folder if (folder / "tokenizer.json").is_file() else None
    own = configs.llama_config(hf, str(file)).vocab
    if pad_rows is None:
        pad_rows = max(0, Tokenizer.from_pretrained(folder).vocab_size - own) if tokenizer else 1
    cfg = configs.llama_config(hf, str(file), rows=own + pad_rows)
    whole = NatureLMConfig(llama=cfg)
    sources = (source(folder, cfg),)
    return Opened(whole, sources, parts=("llama",), llama=hf, tokenizer=tokenizer, base=absolute(src))


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


def write_settings(checkpoint: Checkpoint, folder: pathlib.Path, rows: int, weights: Sequence[Entry] = ()) -> None:
    """config.json, generation_config.json and tokenizer of the language model with `rows` of vocabulary.

    `weights` are the tensors stored with them, if any.
    """
    own = configs.llama_json(dataclasses.replace(checkpoint.config.llama, lora=None), checkpoint.llama, rows=rows)
    if ids := write_tokenizer(checkpoint, folder, rows):
        own = ids.fill(own)
    if types := {entry.dtype.name for entry in weights}:
        own |= {"torch_dtype": "float32" if "float32" in types else min(types)}
    write_config(folder / "config.json", own)


def write_base(checkpoint: Checkpoint, folder: pathlib.Path, *, dtype, progress, max_shard_bytes) -> None:
    """The language model as it was before the adapter and without [PAD], complete."""
    rows = checkpoint.config.llama.vocab - checkpoint.pad_rows
    tensors = base_entries(checkpoint, rows, dtype, merged=False)
    write_sharded(folder, tensors, FOR_TORCH, progress, max_shard_bytes)
    if jax.process_index() == 0:
        write_settings(checkpoint, folder, rows, tensors)


def export_merged(
    checkpoint: Checkpoint,
    out: pathlib.Path,
    *,
    dtype: str | None = None,
    pad_row: bool = True,
    progress: Progress | None = None,
    max_shard_bytes: int = 5 * 10**9,
) -> tuple[str, ...]:
    """A directory for `AutoModelForCausalLM`, the adapter merged into the weights.

    `pad_row=False` leaves the appended [PAD] row out, which gives the sizes of the original language model.
    """
    vocab = checkpoint.config.llama.vocab
    rows = vocab if pad_row else vocab - checkpoint.pad_rows
    tensors = base_entries(checkpoint, rows, dtype, merged=True)
    write_sharded(out, tensors, FOR_TORCH, progress, max_shard_bytes)
    if jax.process_index() == 0:
        write_settings(checkpoint, out, rows, tensors)
    return ()


def export_peft(
    checkpoint: Checkpoint,
    out: pathlib.Path,
    *,
    dtype: str | None = None,
    with_base: bool = False,
    llama_path: str = "",
    progress: Progress | None = None,
    max_shard_bytes: int = 5 * 10**9,
) -> tuple[str, ...]:
    """A directory for `PeftModel.from_pretrained`: the adapter alone, for the original language model.

    `with_base` writes that one next to it, `llama_path` names it. The tokenizer is the language model's own.

    Raises:
      UserError: no adapter; a language model that has no name, was trained here, or is another one if it is named.
    """
    lora = checkpoint.config.llama.lora
    if lora is None:
        raise UserError("export --format peft: the checkpoint has no LoRA adapter; use --format llama-merged")
    ways = (
        "write it next to the adapter with --with-base, name a copy of it with --llama-path, or use "
        "--format llama-merged"
    )
    if checkpoint.base_changed and not (with_base or llama_path):
        raise UserError(f"export --format peft: the language model was trained too, so that no other has it; {ways}")
    base = f"{published(out)}/{BASE_FOLDER}" if with_base else llama_path or checkpoint.base
    if not base:
        raise UserError(f"export --format peft: where the language model came from is not known; {ways}")
    if not with_base:
        _check_base(checkpoint, base)
    tensors = entries(checkpoint.leaves, table.peft(), language_model_in(dtype))
    write_safetensors(out / "adapter_model.safetensors", tensors, FOR_TORCH, progress)
    if with_base:
        folder = out / BASE_FOLDER
        folder.mkdir(exist_ok=True)
        write_base(checkpoint, folder, dtype=dtype, progress=progress, max_shard_bytes=max_shard_bytes)
    if jax.process_index() == 0:
        write_config(out / "adapter_config.json", configs.adapter_json(lora, base))
        write_tokenizer(checkpoint, out, checkpoint.config.llama.vocab - checkpoint.pad_rows, generation=False)
    moved = "" if is_id(base) else "; if it moves, or the adapter is published, put its new path or hub id there"
    return (f"the adapter applies to the language model {base}, as adapter_config.json says{moved}",)


def _check_base(checkpoint: Checkpoint, base: str) -> None:
    """Raises UserError if a directory called `base` holds another language model: some of its tensors differ."""
    folder = pathlib.Path(base)
    if not any((folder / name).is_file() for name in (SINGLE, INDEX)):
        return
    theirs, last = read_tensors(folder), checkpoint.config.llama.layers - 1
    looked_at = (
        "model.norm.weight",
        "model.layers.0.self_attn.q_proj.weight",
        f"model.layers.{last}.mlp.up_proj.weight",
    )
    leaves = {path: leaf for path, leaf in checkpoint.leaves.items() if path.startswith("llama/")}
    for entry in entries(leaves, table.hugging_face(checkpoint.config.llama)):
        if entry.name not in looked_at:
            continue
        other = theirs.get(entry.name)
        (ours,) = entry.parts()
        if other is None or other.shape != ours.shape or not _equal(ours, other):
            raise UserError(
                f"export --format peft: {base} is not the language model under this adapter, {entry.name} differs; "
                "name the one it was trained on with --llama-path, or write it with --with-base"
            )


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    """Equality in the narrower of two types."""
    narrow = min(a.dtype, b.dtype, key=lambda dtype: dtype.itemsize)
    return np.array_equal(a.astype(narrow), b.astype(narrow))
