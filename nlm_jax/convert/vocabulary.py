"""Tokenizer files and special ids of a language model that is written for others.

What came with the model stays; what is missing is derived from the tokenizer, so that other programs begin, pad and
stop where this one does. Files hold [PAD] exactly if the vocabulary has a row for it.
"""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Iterable, Mapping
from typing import Any

from nlm_jax.convert.checkpoint import Checkpoint
from nlm_jax.convert.io import read_json, write_config
from nlm_jax.core.chat import CHAT_TEMPLATE, DEFAULT_TEMPLATE
from nlm_jax.data.text import PAD, SPECIALS, Tokenizer

TOKENIZER, CONFIG, SPECIAL = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
TOKENIZER_FILES = (TOKENIZER, CONFIG, SPECIAL, "chat_template.jinja")
GENERATION = "generation_config.json"
Json = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class SpecialIds:
    """Ids that generation of a language model needs."""

    bos: int
    eos: tuple[int, ...]
    """Stop tokens of the tokenizer: ends of text and of turns, and its own eos token."""
    end: int | None
    """The end symbol that answers were trained with, if it is one token."""
    pad: int | None
    """None if the vocabulary has no row for a token to pad with."""
    special: frozenset[int]
    """Every token of the tokenizer that is no text."""

    def fill(self, carried: Mapping[str, Any]) -> Json:
        """A config.json or generation_config.json with its ids, as far as it has none that the tokenizer knows.

        Defaults of LlamaConfig (bos 1, eos 2) that another library wrote for a tokenizer with other ids go.
        """
        out = dict(carried)
        if out.get("bos_token_id") not in self.special:
            out["bos_token_id"] = self.bos
        generation_config = out.get("eos_token_id")
        ends = generation_config if isinstance(generation_config, list) else [generation_config]
        valid = [i for i in ends if i in self.special] or list(self.eos)
        if self.end is not None and self.end not in valid:
            valid.append(self.end)
        if valid != ends:
            out["eos_token_id"] = valid if len(valid) > 1 else valid[0]
        pad = out.get("pad_token_id")
        if pad not in self.special and (pad, self.pad) != (None, None):
            out.pop("pad_token_id", None)
            out |= {} if self.pad is None else {"pad_token_id": self.pad}
        return out


def copy_tokenizer(source: str | pathlib.Path, folder: pathlib.Path) -> None:
    """Copies a tokenizer and the generation settings next to it, unchanged.

    Args:
      source: directory of a tokenizer. A name that is not a directory, such as a hub id, is saved as Hugging Face does.
      folder: created if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (pathlib.Path(source) / TOKENIZER).is_file():
        _copy_files((*TOKENIZER_FILES, GENERATION), pathlib.Path(source), folder)
    else:
        Tokenizer.from_pretrained(source).save(folder)


def _copy_files(names: Iterable[str], source: pathlib.Path, folder: pathlib.Path) -> None:
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def write_tokenizer(
    checkpoint: Checkpoint, folder: pathlib.Path, rows: int, *, generation: bool = True
) -> SpecialIds | None:
    """Writes the tokenizer of `checkpoint` for a vocabulary of `rows`, and the generation settings.

    Returns:
      the ids for `config.json`; None if the checkpoint has no tokenizer.
    """
    source = checkpoint.tokenizer
    if source is None:
        return None
    _copy_files(TOKENIZER_FILES, source, folder)
    tokenizer = Tokenizer.from_pretrained(source)
    content = read_json(folder / TOKENIZER)
    settings = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    before = json.dumps([content, settings])
    _fit_pad(content, settings, tokenizer.pad_id, rows)
    _add_chat_template(settings, checkpoint, tokenizer, folder)
    if json.dumps([content, settings]) != before:
        for name, value in ((TOKENIZER, content), (CONFIG, settings)):
            (folder / name).write_text(json.dumps(value, indent=2, ensure_ascii=False), encoding="utf-8")
    if (folder / SPECIAL).is_file():
        _same_pad(folder / SPECIAL, settings)
    ids = _special_ids(content, settings, tokenizer, checkpoint.config.end_sym)
    if generation:
        generation_config = read_json(source / GENERATION) if (source / GENERATION).is_file() else {}
        write_config(folder / GENERATION, ids.fill(generation_config))
    return ids


def _fit_pad(content: Json, settings: Json, pad: int, rows: int) -> None:
    """Adds [PAD] if it has a row and the files lack it; takes it out if it has none."""
    added = content.setdefault("added_tokens", [])
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    there = PAD in content.get("model", {}).get("vocab", {}) or any(token["content"] == PAD for token in added)
    if pad < rows:
        if not there:
            added.append({"id": pad, "content": PAD} | flags | {"special": True})
            if "added_tokens_decoder" in settings:
                settings["added_tokens_decoder"][str(pad)] = {"content": PAD} | flags | {"special": True}
        settings["pad_token"] = settings.get("pad_token") or PAD
        return
    content["added_tokens"] = [token for token in added if token["content"] != PAD]
    settings.get("added_tokens_decoder", {}).pop(str(pad), None)
    if _text(settings.get("pad_token")) == PAD:
        del settings["pad_token"]


def _add_chat_template(settings: Json, checkpoint: Checkpoint, tokenizer: Tokenizer, folder: pathlib.Path) -> None:
    """The prompt's format as a chat template, for a language model made here that came without one."""
    if checkpoint.llama or checkpoint.config.prompt_template != DEFAULT_TEMPLATE:
        return
    if "chat_template" not in settings and not (folder / "chat_template.jinja").is_file() and tokenizer.has(*SPECIALS):
        settings["chat_template"] = CHAT_TEMPLATE


def _same_pad(file: pathlib.Path, settings: Json) -> None:
    """special_tokens_map.json names the same token to pad with as tokenizer_config.json."""
    special = read_json(file)
    if _text(special.get("pad_token")) == _text(settings.get("pad_token")):
        return
    special.pop("pad_token", None)
    special |= {"pad_token": settings["pad_token"]} if "pad_token" in settings else {}
    file.write_text(json.dumps(special, indent=2, ensure_ascii=False), encoding="utf-8")


def _special_ids(content: Json, settings: Json, tokenizer: Tokenizer, end_sym: str) -> SpecialIds:
    ids = {token["content"]: token["id"] for token in content.get("added_tokens", ()) if token.get("special")}
    end = tokenizer.encode(end_sym)
    token_ids = frozenset(ids.values()) | {tokenizer.bos_id, *tokenizer.eos_ids}
    pad = ids.get(_text(settings.get("pad_token")))
    return SpecialIds(tokenizer.bos_id, tokenizer.eos_ids, end[0] if len(end) == 1 else None, pad, token_ids)


def _text(token: Any) -> str | None:
    """A token as the files write it: text, or an object with its content."""
    return token.get("content") if isinstance(token, Mapping) else token
