"""The manifest: what a prepared directory contains and how it was made."""

import pathlib
from typing import Any

import numpy as np

from nlm_jax.core.chat import DEFAULT_END_SYM, DEFAULT_TEMPLATE
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.data import shards
from nlm_jax.data.text import Tokenizer, text_digest
from nlm_jax.prepare.annotations import Annotations
from nlm_jax.prepare.clip_index import ClipIndex
from nlm_jax.prepare.dedup import Repeats
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.resume import FORMAT_VERSION, RESULTS, digest_without_rejects
from nlm_jax.prepare.write_examples import ExampleTable, LeftOut


def describe(
    annotations: Annotations,
    key: dict[str, Any],
    clips: ClipIndex,
    repeats: Repeats,
    table: ExampleTable,
    left_out: LeftOut,
    tokenizer: Tokenizer,
) -> dict[str, Any]:
    """The manifest of a prepared directory that is complete otherwise.

    Args:
      annotations: what was read.
      key: `resume.resume_key` of the run.
      clips: their index.
      repeats: duplicates and leakage.
      table: the index of the examples.
      left_out: what is not among them.
      tokenizer: of the token lengths.
    """
    options = annotations.options
    seconds = sum(clips.places["samples"]) / SAMPLE_RATE
    lengths = np.asarray(table.columns["text_tokens"]) + np.asarray(table.columns["answer_tokens"])
    lists = [options.out / name for name in RESULTS[1:] if (options.out / name).is_file()]
    files = sorted([*options.out.glob("examples-*.arrayrecord"), *(options.out / "index").iterdir(), *lists])
    counts = {
        f"{column}s": dict(zip(names, np.bincount(table.columns[column]).tolist(), strict=True))
        for column, names in table.names.items()
    }
    return {
        "version": FORMAT_VERSION,
        "annotations": _annotations(annotations, key, clips),
        "examples": len(table),
        "clips": len(clips.recording),
        "clips_cut_short": clips.cut,
        "seconds": round(seconds, 3),
        "hours": round(seconds / 3600, 4),
        "audio": _audio(options, clips),
        "rejected": {"clips": len(clips.rejected), "examples": left_out.rejected},
        **_checks(annotations, repeats, left_out),
        **({"hold_out": {"training_only": annotations.division.training_only}} if options.hold_out else {}),
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
        "files": {**clips.files, **{str(file.relative_to(options.out)): shards.file_digest(file) for file in files}},
    }


def _annotations(annotations: Annotations, key: dict[str, Any], clips: ClipIndex) -> dict[str, str]:
    """Name and digest of the annotations; of a folder also a digest that does not change when rejects are repaired."""
    entry = {"name": annotations.options.annotations.name, "sha256": key["annotations_sha256"]}
    if annotations.source.is_dir():
        entry["sha256_without_rejects"] = digest_without_rejects(annotations, clips.rejected)
    return entry


def _audio(options: PrepareOptions, clips: ClipIndex) -> dict[str, Any]:
    """How recordings became clips, and what is notable about the recordings."""
    entry: dict[str, Any] = {
        "sample_rate": SAMPLE_RATE,
        "channels": 1,
        "encoding": options.encoding,
        "resampler": "resampy" if options.quality == "kaiser_best" else "soxr",
        "quality": options.quality,
        "max_seconds": options.max_seconds,
    }
    if options.window:
        entry |= {"window": options.window, "hop": options.window_hop}
    return entry | clips.sources.described()


def _checks(annotations: Annotations, repeats: Repeats, left_out: LeftOut) -> dict[str, Any]:
    """Results of the checks of the training part, and how many examples each of them dropped."""
    options, dropped = annotations.options, left_out.by_reason["dropped"]
    checks: dict[str, Any] = {}
    if options.duplicates != "none":
        checks["duplicates"] = {**repeats.duplicates, "examples_dropped": dropped["duplicate"]}
    if annotations.benchmark is not None:
        by_name = dict(left_out.by_reason["leakage"])
        count = dropped["leak"] + (sum(by_name.values()) if options.leakage == "drop" else 0)
        checks["leakage"] = {
            "benchmark": annotations.benchmark.source,
            "policy": options.leakage,
            **repeats.leakage,
            "examples": by_name,
            "examples_dropped": count,
        }
    if annotations.held_out_taxa is not None:
        by_rank = dict(sorted(left_out.by_reason["held_out_taxa"].items()))
        source = "paper" if options.held_out_taxa == "paper" else pathlib.Path(options.held_out_taxa).name
        checks["held_out_taxa"] = {"list": source, "examples_dropped": sum(by_rank.values()), "by_reason": by_rank}
    return checks
