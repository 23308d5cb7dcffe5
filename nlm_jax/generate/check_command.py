"""`nlm check`: is the audio pathway of a model working? Prints each stage's figures, answers, and signs of failure."""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from nlm_jax.audio.config import AudioConfig
from nlm_jax.convert.formats import audio_config
from nlm_jax.core import remote
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import printable
from nlm_jax.generate.audio_inputs import clips_of
from nlm_jax.generate.diagnostics import examine
from nlm_jax.generate.model_args import add_model_arguments, load_model
from nlm_jax.generate.options import check_flags
from nlm_jax.generate.recording_windows import all_recordings

SUMMARY = "inspect a model: what each stage computes for a recording, and the known signs of failure"
QUERY = "What is the common name for the focal species in the audio?"
CLIPS = 8
"""Most recordings that are examined."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `nlm check`."""
    add_model_arguments(parser)
    parser.add_argument(
        "--audio", required=True, nargs="+", type=remote.input_path, help="a recording, or different ones, or a folder"
    )
    parser.add_argument("--query", default=QUERY, help="the question about each recording")
    parser.add_argument("--max-new-tokens", type=int, default=40, help="longest answer, in tokens (default 40)")
    parser.add_argument("--json", type=remote.output_path, help="write the figures to this file")
    parser.set_defaults(dtype="float32")


def run(args: argparse.Namespace) -> int:
    """Prints the report of `diagnostics.examine`; 0 even if there are signs of failure.

    Raises:
      UserError: no such model, or no recording that can be read.
    """
    check_flags(args)
    waves = readable(all_recordings(args.audio), audio_config(args.model))
    report = examine(load_model(args), waves, args.query, args.max_new_tokens)
    show(report, args.query)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
    return 0


def readable(files: Sequence[pathlib.Path], cfg: AudioConfig) -> dict[str, np.ndarray]:
    """The first recordings that can be read, as clips f32[T] of one length; unreadable ones are printed and left out.

    Raises:
      UserError: none can be read.
    """
    waves, errors = {}, []
    for file in files:
        try:
            waves[printable(file)] = clips_of(file, cfg)[0].wave
        except UserError as error:
            errors.append(error)
            print(f"left out: {remote.with_urls(error)}", file=sys.stderr)
        if len(waves) == CLIPS:
            break
    if not waves:
        raise errors[0]
    return waves


def show(report: dict[str, Any], query: str) -> None:
    """Prints a report of `diagnostics.examine`."""
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    table = Table("stage", "shape", "mean", "deviation", "least", "largest", title="output of each stage")
    for name, s in report["stages"].items():
        figures = (f"{s[key]:.4g}" for key in ("mean", "deviation", "least", "largest"))
        table.add_row(name, "x".join(map(str, s["shape"])), *figures)
    console.print(table)
    v, first = report["vectors"], report["first_token"]
    console.print(
        f"vectors: norm {v['norm']:.3g}, word embeddings {v['embedding_norm']:.3g}; cosine between windows "
        f"{v['cosine_windows']:.4f}, between recordings {v['cosine_clips']:.4f}; nearest tokens of the first "
        f"recording: {' '.join(map(repr, v['nearest'][:12]))} (cosine {v['nearest_cosine']:.3f})"
    )
    likely = ", ".join(f"{token!r} {share:.1%}" for token, share in first["likeliest"])
    console.print(f"query {query!r}; first token: {likely}; entropy {first['entropy']:.0%} of chance")
    for name, text in report["answers"].items():
        console.print(f"{name}: {'no answer' if text is None else repr(text)}")
    for sign in report["signs"] or ["none of the known signs of failure"]:
        console.print(sign)
