"""`nlm data describe`: numbers and a page about prepared corpora."""

import argparse
import dataclasses
import json
import os
import pathlib
from typing import Any

import numpy as np
import rich.console
from jaxtyping import Float

from nlm_jax.core import remote
from nlm_jax.core.config import build, load
from nlm_jax.core.dims import CLIP_SECONDS
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import write_text
from nlm_jax.core.frames import n_windows
from nlm_jax.core.progress import progress_bar
from nlm_jax.data import mixture_report
from nlm_jax.data.config import AugmentConfig, DataConfig
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.mixture import groups_of
from nlm_jax.data.train_stream import TrainStream
from nlm_jax.describe import index, levels, page, show

SUMMARY = "what is in prepared corpora: hours, tasks, taxa, levels, and examples with audio, as a page and JSON"
JSON, PAGE, FLAGGED = "describe.json", "describe.html", "flagged.jsonl"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("directories", nargs="*", metavar="DIR", help="directories written by nlm prepare; also URLs")
    add("--out", type=remote.output_path, required=True, help=f"folder for {PAGE}, {JSON} and {FLAGGED}")
    add("--examples", type=int, default=12, metavar="N", help="examples to show, tasks in turn (default 12)")
    add("--augmented", action="store_true", help="show every augmentation before and after")
    add("--sample", type=int, default=2000, metavar="N", help="clips measured for levels; 0 = all (default 2000)")
    add(
        "--config",
        help="config of nlm train: its augmentation, effective epochs, and data if no DIR is given",
    )
    add("--seconds", type=float, default=CLIP_SECONDS, help="of each clip to show (default 10)")
    add("--seed", type=int, default=0, help="seed of the augmentations shown (default 0)")
    add("--workers", type=int, default=os.cpu_count() or 1, help="threads that decode (default: all cores)")


def run(args: argparse.Namespace) -> int:
    for name, least in (("examples", 0), ("sample", 0), ("seed", 0), ("workers", 1)):
        if getattr(args, name) < least:
            raise UserError(f"--{name}={getattr(args, name)}: must be at least {least}")
    if not 0 < args.seconds < float("inf"):
        raise UserError(f"--seconds={args.seconds}: must be positive")
    if args.out.exists() and not args.out.is_dir():
        raise UserError(f"--out={args.out}: is a file; name a folder")
    stages = stages_of(args.config, getattr(args, "overrides", [])) if args.config else []
    directories = list(args.directories) or list(dict.fromkeys(d for _, data in stages for d in data.train))
    if not directories:
        raise UserError("no data given; name directories written by nlm prepare, or a --config whose stages have some")
    console = rich.console.Console(stderr=True)
    corpus = Corpus(directories)
    summary = index.numbers(corpus)
    described = {"train": tuple(directories)} if args.directories else {}  # the mixture is applied to these
    summary["mixture"] = [epochs(stage, dataclasses.replace(data, **described)) for stage, data in stages]
    with progress_bar(console) as progress:
        summary["levels"], flagged = levels.levels(corpus, index.Clips(corpus), args.sample, args.workers, progress)
    summary["answers"] = show.answers(corpus)
    samples = round(args.seconds * 16_000)
    shown = show.examples(corpus, args.examples, samples)
    summary["shown"] = [one.facts for one in shown]
    pairs = []
    if args.augmented:
        config = stages[-1][1].augment if stages else AugmentConfig()
        pairs = show.augmented(corpus, config, samples, args.seed)
        summary["augmented"] = [{**a.facts, "after": b.facts if b else None} for a, b in pairs]
    write(args.out, summary, page.document(summary, shown, pairs), flagged)
    print(
        f"{args.out / PAGE}: {summary['examples']} examples, {summary['clips']} clips, {summary['hours']:.2f} h, "
        f"{len(summary['tasks'])} tasks, {summary['labels']['labels']} labels"
    )
    return 0


def stages_of(config: str, overrides: list[str]) -> list[tuple[dict[str, Any], DataConfig]]:
    """Name and steps of every stage of a training config, and its data.

    Raises:
      UserError: the file has no stages, or a field of their data is invalid.
    """
    values = load(config, overrides)
    stages = values.get("stages")
    if not stages:
        raise UserError(f"--config={config}: has no stages; give a config of nlm train, such as configs/stage1.py")
    return [
        (
            {"stage": stage.get("name", f"stage{k + 1}"), "steps": int(stage.get("steps", 1000))},
            build(DataConfig, stage.get("data", {}), f"config.stages[{k}].data"),
        )
        for k, stage in enumerate(stages)
    ]


def epochs(stage: dict[str, Any], data: DataConfig) -> dict[str, Any]:
    """Effective epochs of a stage, estimated: rows hold as many mean examples as fit. `nlm train` plans the rows."""
    corpus = Corpus(data.train, data.train_split, data.tasks, data.domains, data.cache_gb)
    stream = TrainStream(groups_of(corpus, data.mixture, data.seed), data.seed)
    size = mean_size(corpus, stream, n_windows(data.samples))
    draws = stage["steps"] * data.rows * max(1.0, float((np.array(capacity(data)) / np.maximum(size, 1e-9)).min()))
    listed = mixture_report.rows(corpus, stream, draws)
    return {**stage, "rows_a_step": data.rows, "examples_drawn": round(draws), "rows": listed}


def capacity(data: DataConfig) -> tuple[int, int, int]:
    """Tokens, clips and answer tokens of a row."""
    return data.row_tokens, data.row_clips, data.row_answers


def mean_size(corpus: Corpus, stream: TrainStream, vectors: int) -> Float[np.ndarray, "3"]:
    """Tokens, clips and answer tokens of the mean example of the stream, from the token counts of the index."""
    columns = [np.asarray(corpus.column(name), np.float64) for name in ("text_tokens", "answer_tokens")]
    clips = corpus.n_clips
    weights = mixture_report.expected_draws(corpus, stream, 1.0)
    sizes = np.stack([columns[0] + columns[1] + vectors * clips, clips, columns[1]])
    return sizes @ (weights / weights.sum())


def write(out: pathlib.Path, summary: dict[str, Any], document: str, flagged: list[dict[str, Any]]) -> None:
    """Writes the files."""
    listed = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in flagged)
    out.mkdir(parents=True, exist_ok=True)
    numbers = json.dumps(summary, ensure_ascii=False, indent=1) + "\n"
    for name, content in ((FLAGGED, listed), (JSON, numbers), (PAGE, document)):
        write_text(out / name, content)
