"""Where the answers that are scored come from: prediction files, or a model that makes them, at one or more alphas."""

import argparse
import dataclasses
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nlm_jax.audio.config import AudioConfig
from nlm_jax.core.errors import UserError
from nlm_jax.evaluate import prediction_files, ranking, runner
from nlm_jax.evaluate.beans_zero import dataset
from nlm_jax.evaluate.beans_zero.parts import PARTS
from nlm_jax.evaluate.beans_zero.score import Answer
from nlm_jax.generate.model_args import load_model
from nlm_jax.generate.options import check_flags

AHEAD = 4
"""Batches that are handed to the model at once: it replaces a finished answer by the next question."""


def gathered(source: pathlib.Path, console) -> list[Answer]:
    """The answers of a file, or of the prediction files of a folder, as several processes write them.

    In a folder an answer that another file holds too is taken once, and label scores that lie beside it join it.

    Raises:
      UserError: no answers there.
    """
    if not source.is_dir():
        rows = prediction_files.read(source)
        if twice := len(rows) - len({(row.dataset_name, row.id) for row in rows}):
            console.print(f"{source}: {twice} answers to a question that has one already; all count")
        return rows
    found = sorted(source.glob(f"{runner.PREDICTIONS}*.jsonl"))
    if not found:
        raise UserError(f"{source}: holds no {runner.PREDICTIONS}*.jsonl")
    scores = {}
    for file in sorted(source.glob(f"{runner.SCORES}*.jsonl")):
        scores |= prediction_files.read_scores(file)
    rows, there = [], set()
    for file in found:
        mine = prediction_files.read(file, growing=True)
        rows += [row for row in mine if (row.dataset_name, row.id) not in there]
        there |= {(row.dataset_name, row.id) for row in mine}
    if not rows:
        raise UserError(f"{source}: its {runner.PREDICTIONS}*.jsonl hold no answer")
    return [dataclasses.replace(row, scores=scores.get((row.dataset_name, row.id), row.scores)) for row in rows]


def made(
    args: argparse.Namespace, vocabulary: Mapping[str, Sequence[str]], console
) -> Iterator[tuple[float, pathlib.Path]]:
    """Makes the answers that are not there yet; (alpha, folder of its answers) of one alpha after the other.

    The model is loaded once, and not at all where nothing is left to answer.

    Raises:
      UserError: flags that make no sense, no such data or model, a folder with another run's answers.
    """
    if not args.data:
        raise UserError("--model needs --data: the benchmark's folder or hub id")
    if args.limit < 0 or args.batch_size < 1:
        raise UserError("--limit must not be negative, --batch-size must be at least 1")
    if args.max_new_tokens < 1 or args.num_beams < 1:
        raise UserError("--max-new-tokens and --num-beams must be at least 1")
    check_flags(args)
    if not all(map(math.isfinite, args.merging_alpha)):
        raise UserError("--merging-alpha: give numbers, 0 for the base model and 1 for the trained one")
    number, of = runner.check_shard(args.shard)
    parts = runner.check_parts(args.parts, PARTS)
    heads = dataset.heads(args.data)
    mark, model = "" if of == 1 else f".{number}-of-{of}", None
    for alpha in dict.fromkeys(args.merging_alpha):
        folder = args.out if len(set(args.merging_alpha)) == 1 else args.out / f"alpha-{alpha:g}"
        todo, own = runner.plan(heads, parts, args.limit, number, of, runner.known(folder))
        if not own and of == 1:
            raise UserError(f"--data={args.data}: no question of {', '.join(parts) or 'any part'} in it")
        settings = {
            "merging_alpha": alpha,
            **{name: getattr(args, name) for name in ("score", "normalize", "num_beams")},
        }
        runner.settle(folder, {"model": str(args.model), "data": str(args.data), **settings})
        if todo:
            model = load_model(args) if model is None else model
            replies = replying(args, at(model, alpha), heads, vocabulary)
            rows, clips = [heads[row] for row in todo], model.config.audio
            name = f"questions, alpha {alpha:g}" if folder != args.out else "questions"
            ask(args, replies, rows, clips, own, folder, mark, name, console)
        yield alpha, folder


def at(model: Any, alpha: float) -> Any:
    """The same model with its adapter scaled by `alpha`. All other weights are shared, and so are compiled programs."""
    from nlm_jax.convert.lora import interpolate

    if alpha == 1.0:
        return model
    leaves = interpolate(dict(model.checkpoint.leaves), alpha)
    return type(model)(dataclasses.replace(model.checkpoint, leaves=leaves), model.tokenizer, model.mesh)


def replying(args: argparse.Namespace, model: Any, heads, vocabulary) -> runner.Replies:
    """How the model replies: `--score`."""
    write = ranking.writer(
        model, max_new_tokens=args.max_new_tokens, batch_size=args.batch_size, num_beams=args.num_beams
    )
    if args.score == "answers":
        return write
    named = ranking.candidates(heads, vocabulary)
    return ranking.ranker(model, named, write, normalize=args.normalize, batch_size=args.batch_size)


def ask(
    args,
    replies,
    todo: Sequence[dataset.Head],
    clips: AudioConfig,
    own: int,
    folder: pathlib.Path,
    mark: str,
    name: str,
    console,
) -> None:
    """Asks the rows `todo`, what is left of `own`, with a bar that knows how many are left and how long they take.

    Args:
      clips: how the checkpoint takes recordings.
    """
    from nlm_jax.core.progress import progress_bar

    with progress_bar(console) as bar:
        task = bar.add_task(name, total=own, completed=own - len(todo))
        failed = runner.answer(
            dataset.read(todo, clips),
            replies,
            folder,
            mark,
            AHEAD * args.batch_size,
            lambda n: bar.advance(task, n),
        )
    if failed:
        console.print(
            f"{failed} questions were left out: their audio cannot be used; the reasons are in "
            f"{folder / f'{runner.ERRORS}{mark}.jsonl'}",
        )
