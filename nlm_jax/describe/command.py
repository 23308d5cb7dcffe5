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

SUMMARY = "what is in prepared corpora: hours, tasks, taxa, levels, examples to hear; a page and JSON"
JSON, PAGE, FLAGGED = "describe.json", "describe.html", "flagged.jsonl"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("directories", nargs="*", metavar="DIR", help="written by nlm prepare; in buckets too")
    add("--out", type=remote.output_path, required=True, help=f"folder for {PAGE}, {JSON} and {FLAGGED}")
    add("--examples", type=int, default=12, metavar="N", help="shown, tasks in turn (default 12)")
    add("--augmented", action="store_true", help="show every augmentation before and after")
    add("--sample", type=int, default=2000, metavar="N", help="clips measured for levels; 0 = all (default 2000)")
    add("--config", help="of nlm train: its augmentation, its effective epochs, and its data where no DIR is given")
    add("--seconds", type=float, default=CLIP_SECONDS, help="of each clip to show (default 10)")
    add("--seed", type=int, default=0, help="of the augmentations shown (default 0)")
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
    told = index.numbers(corpus)
    own = {"train": tuple(directories)} if args.directories else {}  # the mixture of the config, of what is described
    told["mixture"] = [epochs(stage, dataclasses.replace(data, **own)) for stage, data in stages]
    with progress_bar(console) as progress:
        told["levels"], flagged = levels.levels(corpus, index.Clips(corpus), args.sample, args.workers, progress)
    told["answers"] = show.answers(corpus)
    samples = round(args.seconds * 16_000)
    shown = show.examples(corpus, args.examples, samples)
    told["shown"] = [one.facts for one in shown]
    pairs = []
    if args.augmented:
        config = stages[-1][1].augment if stages else AugmentConfig()
        pairs = show.augmented(corpus, config, samples, args.seed)
        told["augmented"] = [{**a.facts, "after": b.facts if b else None} for a, b in pairs]
    write(args.out, told, page.document(told, shown, pairs), flagged)
    print(
        f"{args.out / PAGE}: {told['examples']} examples, {told['clips']} clips, {told['hours']:.2f} h, "
        f"{len(told['tasks'])} tasks, {told['labels']['labels']} labels"
    )
    return 0


def stages_of(config: str, overrides: list[str]) -> list[tuple[dict[str, Any], DataConfig]]:
    """Name and steps of every stage of a training config, and its data.

    Raises:
      UserError: the file has no stages, or their data is not what `DataConfig` knows.
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
    """Effective epochs of a stage. `nlm train` knows them exactly; here rows hold as many mean examples as fit."""
    corpus = Corpus(data.train, data.train_split, data.tasks, data.domains, data.cache_gb)
    stream = TrainStream(groups_of(corpus, data.mixture, data.seed), data.seed)
    need = mean_need(corpus, stream, n_windows(data.samples))
    draws = stage["steps"] * data.rows * max(1.0, float((np.array(capacity(data)) / np.maximum(need, 1e-9)).min()))
    listed = mixture_report.rows(corpus, stream, draws)
    return {**stage, "rows_a_step": data.rows, "examples_drawn": round(draws), "rows": listed}


def capacity(data: DataConfig) -> tuple[int, int, int]:
    """Tokens, clips and answer tokens of a row."""
    return data.row_tokens, data.row_clips, data.row_answers


def mean_need(corpus: Corpus, stream: TrainStream, vectors: int) -> Float[np.ndarray, "3"]:
    """Tokens, clips and answer tokens of the mean example of the stream, by the token counts of the index."""
    columns = [np.asarray(corpus.column(name), np.float64) for name in ("text_tokens", "answer_tokens")]
    clips = corpus.n_clips
    weights = mixture_report.expected_draws(corpus, stream, 1.0)
    each = np.stack([columns[0] + columns[1] + vectors * clips, clips, columns[1]])
    return each @ (weights / weights.sum())


def write(out: pathlib.Path, told: dict[str, Any], document: str, flagged: list[dict[str, Any]]) -> None:
    """Writes the files."""
    listed = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in flagged)
    out.mkdir(parents=True, exist_ok=True)
    said = json.dumps(told, ensure_ascii=False, indent=1) + "\n"
    for name, content in ((FLAGGED, listed), (JSON, said), (PAGE, document)):
        write_text(out / name, content)
