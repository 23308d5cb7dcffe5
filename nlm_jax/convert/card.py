"""README.md of an export: the model card that the Hugging Face hub shows, from what the checkpoint knows of itself."""

import importlib.resources
import json
import pathlib
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from nlm_jax.convert.checkpoint import Checkpoint, published
from nlm_jax.core.hub import is_id

FILE = "README.md"
KINDS = {
    "naturelm": ("audio-text-to-text", "naturelm", ("pytorch_model_hub_mixin", "model_hub_mixin")),
    "nlm": ("audio-text-to-text", "nlm_jax", ("jax", "flax")),
    "peft": ("text-generation", "peft", ("lora",)),
    "llama-merged": ("text-generation", "transformers", ("llama",)),
    "beats": ("feature-extraction", "nlm_jax", ("beats",)),
}
"""Format -> the hub's pipeline_tag, library_name and further tags."""
TITLES = {
    "naturelm": "Audio-language model in the layout of the official NatureLM-audio class",
    "nlm": "Checkpoint in the format of nlm_jax itself",
    "peft": "LoRA adapter of an audio-language model, for its language model alone",
    "llama-merged": "Language model of an audio-language model, its adapter merged",
    "beats": "BEATs audio encoder",
}
LLAMA = re.compile(r"llama[-_ ]?(3\.1|3\.2|3\.3|4|3|2)(?!\d)", re.IGNORECASE)
"""A name of Meta's models; their licence has the same number."""
META_VOCABULARY = 128256
"""Rows of every Llama 3: a directory called anything else is known by it."""
NATURELM, BEATS = "cc-by-nc-sa-4.0", "mit"
"""Licences of the released NatureLM-audio weights and of Microsoft's BEATs."""


def write_card(checkpoint: Checkpoint, folder: pathlib.Path, name: str, format: str, notes: Sequence[str]) -> None:
    """Writes the card of an export called `name`; `notes` say what else a reader needs."""
    snippet = importlib.resources.files("nlm_jax.convert") / "cards" / f"{_snippet(checkpoint, format)}.txt"
    template = importlib.resources.files("nlm_jax.convert") / "cards" / "card.md"
    # A path of this machine means nothing to others and may be private.
    paths = {published(folder): ".", **({} if is_id(checkpoint.base) else {checkpoint.base: _called(checkpoint.base)})}
    for path, called in paths.items():
        notes = [note.replace(path, called) if path else note for note in notes]
    parts = {
        "front": _front(checkpoint, format),
        "name": name,
        "title": TITLES[format],
        "licence": "\n".join(f"- {line}" for line in _licences(checkpoint)[1]),
        "training": _training(checkpoint.history),
        "figures": _figures(checkpoint.history.get("figures") or {}),
        "snippet": snippet.read_text(encoding="utf-8").strip(),
        "notes": "".join(f"\n- {note[:1].upper()}{note[1:]}." for note in notes),
        "seconds": f"{checkpoint.config.audio.seconds:g}",
    }
    text = string.Template(template.read_text(encoding="utf-8")).substitute(parts)
    (folder / FILE).write_text(text, encoding="utf-8")


def _snippet(checkpoint: Checkpoint, format: str) -> str:
    """Name of the example: parts of a model in our own format cannot answer."""
    whole = {"beats", "qformer", "llama"} <= set(checkpoint.parts)
    return {"naturelm": "naturelm", "peft": "peft", "llama-merged": "llama"}.get(
        format, "naturelm" if format == "nlm" and whole else "part"
    )


def _front(checkpoint: Checkpoint, format: str) -> str:
    """The YAML between the lines of hyphens. JSON strings are YAML strings."""
    task, library, tags = KINDS[format]
    licences, _ = _licences(checkpoint)
    named = {"license": licences[0] if len(licences) == 1 else "other"}
    if named["license"] == "other":
        named["license_name"] = "-and-".join(licences) if licences != ["other"] else "that-of-the-base-model"
    lines = [f"{key}: {json.dumps(value)}" for key, value in named.items()]
    if "llama" in checkpoint.parts and is_id(checkpoint.base):  # the hub takes ids only
        lines += ["base_model:", f"- {json.dumps(checkpoint.base)}"]
        lines += ["base_model_relation: adapter"] if format == "peft" else []
    lines += [f"library_name: {library}", f"pipeline_tag: {task}", "tags:"]
    lines += [f"- {tag}" for tag in ("audio", "bioacoustics", "naturelm-audio", *tags)]
    return "\n".join(lines)


def _licences(checkpoint: Checkpoint) -> tuple[list[str], list[str]]:
    """Ids of the licences of what these weights derive from, and a sentence about each."""
    ids, sentences = [], []
    if "llama" in checkpoint.parts and (checkpoint.base or checkpoint.llama):
        licence, version = language_model_licence(checkpoint)
        ids.append(licence)
        called = _called(checkpoint.base) or "a Llama-like model whose directory is unknown"
        if version:
            sentences += [
                f"Language model: {called}, under Meta's Llama {version} Community License. **Built with Llama.**",
                "That licence asks that a copy of it goes with the weights, that a model's name begins with "
                f'"Llama", and for this notice: Llama {version} is licensed under the Llama {version} Community '
                "License, Copyright © Meta Platforms, Inc. All Rights Reserved.",
            ]
        else:
            sentences.append(f"Language model: {called}. Its licence ({licence}) holds for these weights too.")
    if checkpoint.official:
        ids.append(NATURELM)
        sentences.append(
            "The weights or their config came from NatureLM-audio; its released weights are for non-commercial use "
            "(CC BY-NC-SA 4.0, Earth Species Project), and so is what derives from them."
        )
    if "beats" in checkpoint.parts and (encoder := checkpoint.history.get("encoder")):
        ids += [] if ids else [BEATS]
        sentences.append(f"Audio encoder: started from {encoder}; Microsoft's BEATs are under the MIT licence.")
    if not ids:
        return ["unknown"], [
            "No published weights are recorded as their origin. Name a licence before you publish them."
        ]
    return list(dict.fromkeys(ids)), sentences


def language_model_licence(checkpoint: Checkpoint) -> tuple[str, str]:
    """The hub's id of the licence of the language model ("other" if unknown), and Meta's version number."""
    card = pathlib.Path(checkpoint.base or "/nowhere") / FILE
    front = card.read_text(encoding="utf-8", errors="replace")[:4000] if card.is_file() else ""
    stated = re.search(r"^license:\s*[\"']?([\w.-]+)", front, re.MULTILINE)
    if stated and stated[1] != "other":
        licence = stated[1].lower()
        return licence, licence.removeprefix("llama") if licence.startswith("llama") else ""
    names = f"{pathlib.Path(checkpoint.base).name} {checkpoint.base} {checkpoint.llama.get('_name_or_path', '')}"
    if match := LLAMA.search(names):
        return f"llama{match[1]}", match[1]
    return ("llama3.1", "3.1") if checkpoint.llama.get("vocab_size") == META_VOCABULARY else ("other", "")


def _called(base: str) -> str:
    """A hub id as a link; of a directory its name alone, since the rest of the path may be private."""
    return f"[{base}](https://huggingface.co/{base})" if is_id(base) else base.rstrip("/").rpartition("/")[2]


def _training(history: Mapping[str, Any]) -> str:
    """Stages as a table, and where they started."""
    if not history.get("stages"):
        return "How these weights were trained is not recorded with them."
    rows = ["| stage | steps | examples a step | trained | data |", "|---|---|---|---|---|"]
    for stage in history["stages"]:
        values = (stage["name"], stage["steps"], stage["batch"], ", ".join(stage["trained"]), ", ".join(stage["data"]))
        rows.append("| " + " | ".join(str(value) for value in values) + " |")
    started = history.get("from") or ["random weights"]
    return "\n".join([f"Trained with nlm_jax, starting from {', '.join(started)}.", "", *rows])


def _figures(figures: Mapping[str, Any]) -> str:
    """Validation at the checkpoint, whole and by task."""
    if not figures:
        return "No validation was recorded with them."
    rows = ["| validation | loss per token | token accuracy | answers right in every token |", "|---|---|---|---|"]
    for name, scores in {"all": figures, **(figures.get("task") or {})}.items():
        if {"loss", "accuracy", "exact"} <= set(scores):
            rows.append(f"| {name} | {scores['loss']:.4f} | {scores['accuracy']:.1%} | {scores['exact']:.1%} |")
    return "\n".join(rows)
