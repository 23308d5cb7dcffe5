"""The last stage of `nlm prepare`: the manifest, which says what a prepared directory holds."""

import pathlib
from typing import Any

import numpy as np

from nlm_jax.core.chat import DEFAULT_END_SYM, DEFAULT_TEMPLATE
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.data import shards
from nlm_jax.data.text import Tokenizer, text_digest
from nlm_jax.prepare.dedup import Repeats
from nlm_jax.prepare.options import FORMAT_VERSION, Options
from nlm_jax.prepare.write_clips import RESULTS, Clips, settled
from nlm_jax.prepare.write_examples import Table


def describe(options: Options, clips: Clips, repeats: Repeats, table: Table, tokenizer: Tokenizer) -> dict[str, Any]:
    """The manifest of a prepared directory, which is complete but for it."""
    seconds = sum(clips.places["samples"]) / SAMPLE_RATE
    lengths = np.asarray(table.columns["text_tokens"]) + np.asarray(table.columns["answer_tokens"])
    lists = [options.out / name for name in RESULTS[1:] if (options.out / name).is_file()]
    files = sorted([*options.out.glob("examples-*.arrayrecord"), *(options.out / "index").iterdir(), *lists])
    counts = {
        f"{key}s": dict(zip(names, np.bincount(table.columns[key]).tolist(), strict=True))
        for key, names in table.names.items()
    }
    return {
        "version": FORMAT_VERSION,
        "annotations": _annotations(options, clips),
        "examples": len(table.columns["task"]),
        "clips": len(clips.path),
        "clips_cut_short": clips.cut,
        "seconds": round(seconds, 3),
        "hours": round(seconds / 3600, 4),
        "audio": _audio(options, clips),
        "rejected": {"clips": len(clips.rejected), "examples": table.rejected},
        **_checks(options, repeats, table),
        **({"hold_out": {"training_only": options.division.training_only}} if options.hold_out else {}),
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


def _annotations(options: Options, clips: Clips) -> dict[str, str]:
    """What the directory was made of; of a folder also a digest that repaired recordings do not change."""
    made = {"name": options.annotations.name, "sha256": options.plan()["annotations_sha256"]}
    if options.source.is_dir():
        made["sha256_without_rejects"] = settled(options, clips.rejected)
    return made


def _audio(options: Options, clips: Clips) -> dict[str, Any]:
    """How recordings became clips."""
    made: dict[str, Any] = {"sample_rate": SAMPLE_RATE, "channels": 1, "encoding": options.encoding}
    made |= {
        "resampler": "resampy" if options.quality == "kaiser_best" else "soxr",
        "quality": options.quality,
        "max_seconds": options.max_seconds,
    }
    if options.window:
        made |= {"window": options.window, "hop": options.hop or options.window / 2}
    return made | clips.sources.described()


def _checks(options: Options, repeats: Repeats, table: Table) -> dict[str, Any]:
    """What was looked for in the training part, what was found, and how many examples went for it."""
    out: dict[str, Any] = {}
    dropped = table.left_out["dropped"]
    if options.duplicates != "none":
        out["duplicates"] = {**repeats.duplicates, "examples_dropped": dropped["duplicate"]}
    if options.against is not None:
        named = dict(table.left_out["leakage"])
        gone = dropped["leak"] + (sum(named.values()) if options.leakage == "drop" else 0)
        out["leakage"] = {
            "benchmark": options.against.source,
            "policy": options.leakage,
            **repeats.leakage,
            "examples": named,
            "examples_dropped": gone,
        }
    if options.taxa is not None:
        reasons = dict(sorted(table.left_out["held_out_taxa"].items()))
        source = "paper" if options.held_out_taxa == "paper" else pathlib.Path(options.held_out_taxa).name
        out["held_out_taxa"] = {"list": source, "examples_dropped": sum(reasons.values()), "by_reason": reasons}
    return out
