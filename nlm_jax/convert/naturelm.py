"""The official NatureLM class: its directories, its training checkpoints, its exports."""

import pathlib
from collections.abc import Collection, Mapping, Sequence

import jax
import numpy as np

from nlm_jax.convert import configs, llama
from nlm_jax.convert.checkpoint import (
    PARTS,
    Checkpoint,
    Opened,
    buffers,
    duplicates,
    entries,
    language_model_in,
    published,
)
from nlm_jax.convert.io import INDEX, SINGLE, Progress, read_json, read_tensors, write_config, write_safetensors
from nlm_jax.convert.leaves import Source, abstract
from nlm_jax.convert.table import official
from nlm_jax.core.errors import UserError
from nlm_jax.core.hub import absolute, cached_model, is_id, model_path
from nlm_jax.core.remote import is_remote
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.models.llama.config import LlamaConfig
from nlm_jax.models.qformer.config import QFormerConfig

QFORMER_FILE = "qformer_config.json"
LLAMA_FOLDER = "llama"


def open_naturelm(
    src: str | pathlib.Path,
    *,
    llm: str | pathlib.Path | None = None,
    base: str | pathlib.Path | None = None,
    config: str | pathlib.Path | None = None,
    qformer_config: str | pathlib.Path | Mapping | None = None,
    parts: Collection[str] = PARTS,
) -> Opened:
    """An official directory (config.json + model.safetensors) or training checkpoint (.pth, whole or trainable only).

    Args:
      src: the directory or file, or a hub id of one.
      llm: Hugging Face directory (or hub id) of the language model: its sizes, its tokenizer, and its weights if
        `src` and `base` lack them. By default `llama/` next to the config, or what its `llama_path` names.
      base: a complete official checkpoint under a partial one.
      config: the official config.json, or its directory, if `src` is a bare .pth file.
      qformer_config: Q-Former sizes, a BERT-like config as path or dict; the official config holds none. By default
        `qformer_config.json` next to the config, else bert-base-uncased's.
      parts: what will be read. Without "llama" the language model need not be there, and its tensors are left out.

    Raises:
      UserError: what cannot be found, read or combined, with the argument that would help.
    """
    src = model_path(src)
    file = _config_file(src, base and model_path(base), config and model_path(config))
    carried, folder = read_json(file), file.parent
    own = folder / QFORMER_FILE
    qformer = configs.qformer_config(own if qformer_config is None and own.is_file() else qformer_config, carried)

    # The partial checkpoint first, then what it was trained on.
    checkpoints = [(str(path), read_tensors(path)) for path in (src, base and model_path(base)) if path]
    if "qformer" in parts and qformer_config is None and not own.is_file():
        _check_default_qformer(qformer, checkpoints)
    if "llama" not in parts:
        return _without_llm(carried, qformer, str(file), checkpoints)
    llm_folder = _find_llm(folder, carried, llm)
    hf = read_json(llm_folder / "config.json")
    rows = next(
        (len(t[name]) for _, t in checkpoints for name in _EMBEDDINGS if name in t), hf.get("vocab_size", 0) + 1
    )
    adapter = configs.lora_config(carried, str(file))
    model = configs.llama_config(hf, str(llm_folder / "config.json"), rows=rows, lora=adapter)
    cfg = configs.naturelm_config(carried, model, qformer, str(file))
    layout = official(cfg)
    sources = [Source(where, tensors, layout) for where, tensors in checkpoints]
    paths = {match.rule.path for _, tensors in checkpoints for name in tensors if (match := layout.match(name))}
    if any(r.path not in paths for r in layout.rules if r.path.startswith("llama/") and "/lora_" not in r.path):
        sources.append(llama.source(llm_folder if llm is None else model_path(llm), cfg.llama))
    tokenizer = llm_folder if (llm_folder / "tokenizer.json").is_file() else None
    base = _base_name(llm, carried.get("llama_path"), llm_folder)
    return Opened(cfg, tuple(sources), official=carried, llama=hf, tokenizer=tokenizer, base=base)


def _without_llm(
    carried: Mapping,
    qformer: QFormerConfig,
    file: str,
    checkpoints: Sequence[tuple[str, Mapping[str, np.ndarray]]],
) -> Opened:
    """An official checkpoint up to its language model, whose config, tokenizer and tensors are not looked at."""
    cfg = configs.naturelm_config(carried, LlamaConfig(), qformer, file)
    layout = official(cfg)
    sources = [
        Source(where, {name: t for name, t in tensors.items() if not name.startswith(_LLM_PREFIXES)}, layout)
        for where, tensors in checkpoints
    ]
    return Opened(cfg, tuple(sources), parts=tuple(part for part in PARTS if part != "llama"), official=carried)


_LLM_PREFIXES = ("llama_model.", "llama_embed_tokens.")
_EMBEDDINGS = (
    "llama_embed_tokens.weight",
    "llama_model.base_model.model.model.embed_tokens.weight",
    "llama_model.model.embed_tokens.weight",
)


def _config_file(src: pathlib.Path, base: pathlib.Path | None, config: pathlib.Path | None) -> pathlib.Path:
    for place in (config, src if src.is_dir() else src.parent, base):
        file = place and (place / "config.json" if place.is_dir() else place)
        if file and file.name.endswith(".json") and file.is_file():
            return file
    raise UserError(
        f"{src}: no config.json with it; pass config= (--config) with the official config.json the weights belong to"
    )


def _find_llm(folder: pathlib.Path, carried: Mapping, llm: str | pathlib.Path | None) -> pathlib.Path:
    """Directory with the language model's config.json: the one given, our own exports' `llama/`, or `llama_path`."""
    if llm is not None:
        directory = model_path(llm, weights=False)
        if not (directory / "config.json").is_file():
            raise UserError(f"{llm}: holds no config.json; llm= (--llm) takes a Hugging Face Llama directory")
        return directory
    named = carried.get("llama_path") or LLAMA_FOLDER
    for place in (folder / LLAMA_FOLDER, folder / named, folder.parent / named, pathlib.Path(named)):
        if (place / "config.json").is_file():
            return place
    if directory := cached_model(str(named)):
        return directory
    raise UserError(
        f"{folder}: its language model {named!r} is not there, and sizes and tokenizer come from it; "
        "pass llm= (--llm) with a Hugging Face Llama directory or hub id"
    )


def _base_name(*candidates: str | pathlib.Path | None) -> str:
    """The first of the names of the language model by which its weights can be had: a hub id, URL or directory."""
    for name in candidates:
        if name and (is_id(str(name)) or is_remote(name)):
            return str(name)
        if name and any((pathlib.Path(name) / file).is_file() for file in (SINGLE, INDEX)):
            return absolute(name)
    return ""


def _check_default_qformer(cfg: QFormerConfig, checkpoints) -> None:
    width = next((t["audio_query_tokens"].shape[-1] for _, t in checkpoints if "audio_query_tokens" in t), None)
    if width not in (None, cfg.width):
        raise UserError(
            f"{checkpoints[0][0]}: its Q-Former is {width} wide and not bert-base-uncased's {cfg.width}, and "
            "the official config holds no sizes; pass qformer_config= (--qformer-config) with a path to them"
        )


def official_layout(
    cfg: NatureLMConfig, base_dtype: str = "bfloat16"
) -> tuple[dict[str, tuple[tuple[int, ...], str]], dict[str, str]]:
    """Parameters of the official class for `cfg`, from shapes alone.

    Args:
      base_dtype: "bfloat16" as built on a GPU (language model and adapter in bfloat16), "float32" as built on a CPU.

    Returns:
      name -> (shape, dtype) of the whole state dict, and for each duplicate in it the name safetensors keeps.
    """
    layout = official(cfg)
    tensors = entries(abstract(cfg), layout, language_model_in(base_dtype)) + buffers(layout)
    full = {entry.name: (entry.shape, entry.dtype.name) for entry in tensors}
    dropped = duplicates(layout, cfg.beats.layers)
    return full | {name: full[original] for name, original in dropped.items()}, dropped


def export_naturelm(
    checkpoint: Checkpoint,
    out: pathlib.Path,
    *,
    dtype: str | None = None,
    with_base: bool = False,
    llama_path: str = "",
    progress: Progress | None = None,
    max_shard_bytes: int = 5 * 10**9,
) -> tuple[str, ...]:
    """The files of the official class's `save_pretrained`, and in `llama/` the language model's config and tokenizer.

    The official class loads the language model named by `llama_path` in config.json before the checkpoint: a hub id, or
    a directory that is looked up from where the program runs, and so an absolute one here.

    Args:
      with_base: add the weights of the language model alone to `llama/`, and name that.
      llama_path: name this one; by default the one the weights came with.

    Returns:
      what the official class needs besides the directory.
    """
    layout, cfg = official(checkpoint.config), checkpoint.config
    tensors = entries(checkpoint.leaves, layout, language_model_in(dtype)) + buffers(layout)
    write_safetensors(out / SINGLE, tensors, duplicates(layout, cfg.beats.layers), progress)
    folder = out / LLAMA_FOLDER
    llama_path, notes = _language_model(checkpoint, f"{published(out)}/{LLAMA_FOLDER}", with_base, llama_path)
    folder.mkdir(exist_ok=True)
    if jax.process_index() == 0:
        write_config(out / "config.json", configs.official_json(cfg, checkpoint.official) | {"llama_path": llama_path})
        write_config(out / QFORMER_FILE, configs.qformer_json(cfg.qformer))
        llama.write_settings(checkpoint, folder, cfg.llama.vocab - checkpoint.pad_rows)
    if with_base:
        llama.write_base(checkpoint, folder, dtype=dtype, progress=progress, max_shard_bytes=max_shard_bytes)
    return (*notes, *_other_qformer(cfg))


def _language_model(
    checkpoint: Checkpoint, own: str, with_base: bool, language_model: str
) -> tuple[str, tuple[str, ...]]:
    """`llama_path` of an export whose `llama/` will be called `own`, and what to say about it."""
    carried = checkpoint.official.get("llama_path") or ""
    if language_model or not with_base:
        lasts = is_id(carried) or pathlib.Path(carried).is_absolute()
        named = language_model or (carried if lasts and carried else checkpoint.base)
        if named:
            where = "fetches" if is_id(named) else "reads"
            return named, (f"the official class {where} the language model {named}, llama_path of config.json",)
        return own, (
            f"the official class needs a language model in {own}, which holds no weights: export with --with-base to "
            "write them, or name one of the same sizes with --llama-path",
        )
    return own, (
        f"the official class reads the language model {own}, llama_path of config.json: put its new path there if the "
        "directory moves. From the hub it fetches config.json and model.safetensors alone: publish llama/ as a "
        "repository of its own, and name that with --llama-path",
    )


def _other_qformer(cfg: NatureLMConfig) -> tuple[str, ...]:
    """A notice if the official class, which has the sizes of its Q-Former in its code, cannot load this one."""
    usual = QFormerConfig()
    names = ("width", "heads", "mlp", "layers", "eps")
    odd = [
        f"{name} {getattr(cfg.qformer, name)}" for name in names if getattr(cfg.qformer, name) != getattr(usual, name)
    ]
    if not odd:
        return ()
    return (
        f"the official class builds a Q-Former of bert-base-uncased's sizes and cannot load this one, with "
        f"{', '.join(odd)}: change the sizes in its init_audio_Qformer to those of {QFORMER_FILE}",
    )
