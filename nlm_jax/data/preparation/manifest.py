"""The last stage of `nlm prepare`: the manifest, which says what a prepared directory holds."""

import hashlib
from typing import Any

import numpy as np

from nlm_jax.core.chat import DEFAULT_END_SYM, DEFAULT_TEMPLATE
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.data import shards
from nlm_jax.data.preparation.examples import Table
from nlm_jax.data.preparation.options import FORMAT_VERSION, Options
from nlm_jax.data.text import Tokenizer


def describe(options: Options, notes, table: Table, tokenizer: Tokenizer) -> dict[str, Any]:
    kept = [clip for note in notes for clip in note["clips"] if "reason" not in clip]
    seconds = sum(clip["samples"] for clip in kept) / SAMPLE_RATE
    lengths = np.asarray(table.columns["text_tokens"]) + np.asarray(table.columns["answer_tokens"])
    files = sorted([*options.out.glob("examples-*.arrayrecord"), *(options.out / "index").iterdir()])
    counts = {
        f"{key}s": dict(zip(names, np.bincount(table.columns[key]).tolist(), strict=True))
        for key, names in table.names.items()
    }
    bad_clips = sum("reason" in clip for note in notes for clip in note["clips"])
    return {
        "version": FORMAT_VERSION,
        "annotations": {"name": options.annotations.name, "sha256": options.plan()["annotations_sha256"]},
        "examples": len(table.columns["task"]),
        "clips": len(kept),
        "clips_cut_short": sum(clip["cut"] for clip in kept),
        "seconds": round(seconds, 3),
        "hours": round(seconds / 3600, 4),
        "rejected": {"clips": bad_clips, "examples": sum(entry["examples"] for entry in table.rejects)},
        **counts,
        "text": {
            "tokenizer": options.tokenizer,
            "digest": text_digest(tokenizer, DEFAULT_TEMPLATE, DEFAULT_END_SYM),
            "tokens_without_audio": {
                "mean": round(float(lengths.mean()), 2),
                "max": int(lengths.max()),
                **{f"p{q}": float(np.percentile(lengths, q)) for q in (50, 90, 99)},
            },
        },
        "files": {
            **{note["file"]: note["sha256"] for note in notes},
            **{str(file.relative_to(options.out)): shards.file_digest(file) for file in files},
        },
    }


def text_digest(tokenizer: Tokenizer, template: str, end_sym: str) -> str:
    """Names what token lengths depend on; lengths made with another one are counted anew when a corpus is opened."""
    return hashlib.sha256("\0".join([tokenizer.digest, template, end_sym]).encode()).hexdigest()[:16]
