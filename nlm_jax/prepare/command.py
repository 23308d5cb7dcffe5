"""`nlm prepare`: the command line of `pipeline.prepare`."""

import argparse
import contextlib
import dataclasses
import functools
import os
import pathlib
from typing import Any, get_args

import rich.console

from nlm_jax.audio.resample import Quality
from nlm_jax.core import hub, remote
from nlm_jax.core.errors import UserError
from nlm_jax.data import shards
from nlm_jax.prepare import beam_runner, source_report
from nlm_jax.prepare.options import Duplicates, Leakage, PrepareOptions
from nlm_jax.prepare.pipeline import WriteClips, prepare
from nlm_jax.prepare.readers import registry
from nlm_jax.prepare.tasks import templates

SUMMARY = "recordings + annotations -> ArrayRecord shards + manifest"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `nlm prepare`."""
    parser.add_argument(
        "annotations",
        metavar="ANNOTATIONS",
        help="JSON lines, a table, a folder, Parquet, tars ('x-{000..127}.tar') or the id of a hub dataset",
    )
    parser.add_argument("--out", required=True, help="directory to write; rerun the same command to resume")
    parser.add_argument("--split", help="keep only examples of this split")
    parser.add_argument(
        "--taxon", action="append", default=[], metavar="NAME", help="keep only this taxon: any rank or common name"
    )
    parser.add_argument("--task", action="append", default=[], metavar="PATTERN", help="keep only these tasks")
    parser.add_argument(
        "--hold-out", type=float, default=0.0, metavar="SHARE", help="of recordings that become split valid, as in 0.2"
    )
    parser.add_argument("--audio-root", help="folder of relative audio paths (default: that of the annotations)")
    parser.add_argument(
        "--tokenizer", default="embedded", help="directory, hub id or 'embedded', for the token lengths"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="threads or processes that convert recordings (default: all cores)",
    )
    parser.add_argument("--shard-size", type=int, default=512, help="clips in one shard (default 512)")
    parser.add_argument(
        "--max-seconds", type=float, default=30.0, help="longest clip; 0 keeps whole recordings (default 30)"
    )
    parser.add_argument("--encoding", choices=get_args(shards.Encoding), default="flac", help="flac is half the size")
    parser.add_argument(
        "--quality",
        choices=get_args(Quality),
        default="HQ",
        help="of resampling: soxr's (default HQ), or kaiser_best, that of the official code",
    )
    parser.add_argument(
        "--instruct",
        nargs="?",
        const=templates.ALL,
        default="",
        metavar="TASKS",
        help="generate questions from the facts of each recording: all (default), or names with * and commas",
    )
    parser.add_argument("--templates", type=remote.input_path, metavar="DIR", help="folder of your own task files")
    parser.add_argument("--seed", type=int, default=0, help="for sampling phrasings and candidate answers (default 0)")
    parser.add_argument(
        "--tasks-per-recording", type=int, default=0, metavar="N", help="sample N of its tasks (default 0: all)"
    )
    parser.add_argument(
        "--max-clips", type=int, default=8, metavar="N", help="most clips in one question; data.row_clips (default 8)"
    )
    parser.add_argument("--format", default="auto", help=f"of the annotations: {', '.join(registry.FORMATS)}")
    parser.add_argument("--window", type=float, default=0.0, metavar="SECONDS", help="cut recordings into windows")
    parser.add_argument(
        "--hop", type=float, default=0.0, metavar="SECONDS", help="between starts of windows (default: half a window)"
    )
    parser.add_argument(
        "--duplicates",
        choices=get_args(Duplicates),
        default="report",
        help="exact and near ones: list them, also drop them from training, or do not look (default report)",
    )
    parser.add_argument(
        "--benchmark",
        metavar="PATH",
        help="recordings excluded from training: BEANS-Zero, a prepared directory, or saved fingerprints",
    )
    parser.add_argument(
        "--leakage", choices=get_args(Leakage), default="drop", help="of --benchmark into training (default drop)"
    )
    parser.add_argument(
        "--held-out-taxa", default="none", metavar="paper|FILE|none", help="taxa excluded from training"
    )
    parser.add_argument(
        "--training-splits", default="train*", metavar="NAMES", help="splits that may lose examples (default 'train*')"
    )
    parser.add_argument(
        "--runner", choices=("local", "beam"), default="local", help="where recordings are converted (default local)"
    )
    parser.add_argument(
        "--beam-args", default="", metavar="FLAGS", help="for Beam, as in --beam-args='--runner=DataflowRunner ...'"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    fields = {field.name for field in dataclasses.fields(PrepareOptions)}
    with contextlib.ExitStack() as stack:
        args.benchmark = hub.dataset_path(args.benchmark, "--benchmark=") if args.benchmark else None
        write, retry_rejected = _beam(args, stack) if args.runner == "beam" else _local(args)
        options = PrepareOptions(**{name: value for name, value in vars(args).items() if name in fields})
        console = rich.console.Console(stderr=True)
        manifest = prepare(options, args.workers, console, write, retry_rejected)
    for line in summary(options, manifest):
        print(line)
    return 0


def _local(args: argparse.Namespace) -> tuple[None, bool]:
    """Downloads inputs that are in buckets, and has the results uploaded; see `_beam`."""
    if args.beam_args:
        raise UserError("--beam-args goes with --runner=beam; give both, or neither")
    args.annotations = remote.local_with_folder(args.annotations)
    args.audio_root = remote.local(args.audio_root) if args.audio_root else None
    args.out = remote.local_output(args.out)
    return None, True


def _beam(args: argparse.Namespace, stack: contextlib.ExitStack) -> tuple[WriteClips, bool]:
    """Makes the paths in `args` local, except for recordings and clips in buckets, which only Beam's workers access.

    Returns:
      What writes the clips, and whether this machine has access to the recordings.
    """
    flags = beam_runner.pipeline_options(args.beam_args)
    root = args.audio_root if args.audio_root and remote.is_remote(args.audio_root) else None
    out = args.out if remote.is_remote(args.out) else None
    args.annotations = remote.local(args.annotations) if root else remote.local_with_folder(args.annotations)
    args.audio_root = pathlib.Path(args.audio_root) if args.audio_root and not root else None
    args.out = stack.enter_context(beam_runner.bucket(out)) if out else pathlib.Path(args.out)
    return functools.partial(beam_runner.write_clips, flags=flags, root_url=root, out_url=out), root is None


def summary(options: PrepareOptions, manifest: dict[str, Any]) -> list[str]:
    """The lines that the command prints at the end."""
    out = remote.with_urls(options.out)
    lines = [f"{out}: {manifest['examples']} examples, {manifest['clips']} clips, {manifest['hours']:.2f} h"]
    if manifest["rejected"]["clips"] or manifest["rejected"]["examples"]:
        rejects = remote.with_urls(options.out / "rejects.jsonl")
        lines.append(f"left out: {manifest['rejected']}; the reasons are in {rejects}")
    if not options.split and not any(map(options.is_training, manifest["splits"])):
        names = ", ".join(manifest["splits"])
        lines.append(f"no example is for training: all are of split {names}; --training-splits selects them")
    return lines + warnings(manifest)


def warnings(manifest: dict[str, Any]) -> list[str]:
    """Lines about the recordings of a manifest, the held-out part, and duplicates and leakage in training."""
    lines = source_report.notices(manifest["audio"])
    if labels := manifest.get("hold_out", {}).get("training_only"):
        lines.append(f"in training only, for there is one recording of each: {', '.join(labels)}")
    if (taxa := manifest.get("held_out_taxa")) and taxa["examples_dropped"]:
        lines.append(f"held-out taxa: {taxa['examples_dropped']} examples dropped ({_counts(taxa['by_reason'])})")
    if leakage := manifest.get("leakage"):
        clips, examples = sum(leakage["clips"].values()), sum(leakage["examples"].values())
        lines.append(
            f"benchmark {leakage['benchmark']}: {clips} clips sound like its own, {examples} examples bear its names; "
            f"{leakage['examples_dropped']} examples dropped, listed in leakage.jsonl"
        )
    duplicates = manifest.get("duplicates")
    if duplicates and sum(sum(duplicates[kind].values()) for kind in ("exact", "near")):
        kinds = ", ".join(f"{kind} {_counts(duplicates[kind])}" for kind in ("exact", "near"))
        dropped = duplicates["examples_dropped"]
        lines.append(f"duplicates: {kinds} splits; {dropped} examples dropped; see duplicates.jsonl")
    return lines


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
