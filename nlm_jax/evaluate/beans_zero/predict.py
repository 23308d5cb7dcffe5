"""A model's predictions for BEANS-Zero, at one or more merging alphas of its adapter."""

import argparse
import dataclasses
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nlm_jax.core.errors import UserError
from nlm_jax.evaluate import ranking, runner
from nlm_jax.evaluate.beans_zero import dataset
from nlm_jax.evaluate.beans_zero.parts import CAPTIONING, DETECTION, NONE, PARTS, kind_of, label_sets
from nlm_jax.evaluate.nearest_label import split_items
from nlm_jax.evaluate.output_folder import PredictionWriter, count_answered, record_settings
from nlm_jax.evaluate.ranking import Candidates
from nlm_jax.evaluate.types import Responder
from nlm_jax.generate.model_args import load_model
from nlm_jax.generate.options import check_flags


def answer_by_alpha(
    args: argparse.Namespace, vocabulary: Mapping[str, Sequence[str]], console: Any
) -> Iterator[tuple[float, pathlib.Path]]:
    """Answers the unanswered questions with the model, one merging alpha after the other.

    The model is loaded once, and only if a question is unanswered.

    Args:
      args: of `nlm evaluate`.
      vocabulary: part -> labels that replace the benchmark's, for `--score labels`.
      console: for progress and messages.

    Yields:
      (alpha, folder of its predictions), once all of this process's questions are answered.

    Raises:
      UserError: invalid flags, no such data or model, a folder with predictions of other settings.
    """
    check_arguments(args)
    process, processes = runner.parse_shard(args.shard)
    rows = dataset.read_rows(args.data)
    suffix, model = "" if processes == 1 else f".{process}-of-{processes}", None
    for alpha in dict.fromkeys(args.merging_alpha):
        folder = args.out if len(set(args.merging_alpha)) == 1 else args.out / f"alpha-{alpha:g}"
        todo, own = runner.select_rows(rows, args.parts, args.limit, process, processes, count_answered(folder))
        if not own and processes == 1:
            raise UserError(f"--data={args.data}: contains no question of {', '.join(args.parts) or 'any part'}")
        settings = {
            "merging_alpha": alpha,
            **{name: getattr(args, name) for name in ("score", "normalize", "num_beams")},
        }
        record_settings(folder, {"model": str(args.model), "data": str(args.data), **settings})
        if todo:
            model = load_model(args) if model is None else model
            responder = responder_of(args, with_alpha(model, alpha), rows, vocabulary)
            questions = dataset.read_questions((rows[index] for index in todo), model.config.audio)
            writer, batch_size = PredictionWriter(folder, suffix), runner.BATCHES_AHEAD * args.batch_size
            name = f"questions, alpha {alpha:g}" if folder != args.out else "questions"
            with runner.show_progress(console, name, own, own - len(todo)) as advance:
                failed = runner.answer(questions, responder, writer, batch_size, advance)
            if failed:
                console.print(f"{failed} questions have no answer; the reasons are in {writer.errors}")
        yield alpha, folder


def check_arguments(args: argparse.Namespace) -> None:
    """Raises UserError if flags are missing or have invalid values."""
    if not args.data:
        raise UserError("--model needs --data: the benchmark's folder or hub id")
    if args.limit < 0 or args.batch_size < 1:
        raise UserError("--limit must not be negative, --batch-size must be at least 1")
    if args.max_new_tokens < 1 or args.num_beams < 1:
        raise UserError("--max-new-tokens and --num-beams must be at least 1")
    check_flags(args)
    if not all(map(math.isfinite, args.merging_alpha)):
        raise UserError("--merging-alpha: give numbers, 0 for the base model and 1 for the trained one")
    for part in args.parts:
        if part not in PARTS:
            raise UserError(f"--parts {part}: no such part; BEANS-Zero has {', '.join(PARTS)}")


def with_alpha(model: Any, alpha: float) -> Any:
    """The same model with its adapter scaled by `alpha`; all other weights and compiled programs are shared."""
    from nlm_jax.convert.lora import interpolate

    if alpha == 1.0:
        return model
    leaves = interpolate(dict(model.checkpoint.leaves), alpha)
    return type(model)(dataclasses.replace(model.checkpoint, leaves=leaves), model.tokenizer, model.mesh)


def responder_of(
    args: argparse.Namespace, model: Any, rows: Sequence[dataset.BenchmarkRow], vocabulary: Mapping[str, Sequence[str]]
) -> Responder:
    """How the model replies, by `--score`: generated responses, or the most likely label."""
    generate = ranking.generated_replies(
        model, max_new_tokens=args.max_new_tokens, batch_size=args.batch_size, num_beams=args.num_beams
    )
    if args.score == "answers":
        return generate
    candidates = candidate_labels(rows, vocabulary)
    return ranking.ranked_replies(model, candidates, generate, normalize=args.normalize, batch_size=args.batch_size)


def candidate_labels(
    rows: Sequence[dataset.BenchmarkRow], vocabulary: Mapping[str, Sequence[str]]
) -> dict[str, Candidates]:
    """The labels that `--score labels` chooses from.

    Args:
      rows: of the data; their labels are added if they are not among the others.
      vocabulary: part -> labels; the benchmark's for other parts, and for unknown parts those of the data.

    Returns:
      part -> labels, of a detection with "None" last. Captioning has none.
    """
    by_part: dict[str, list[str]] = {}
    for row in rows:
        by_part.setdefault(row.part, []).append(row.label)
    candidates = {}
    for part, labels in by_part.items():
        items = [item for label in labels for item in split_items(label)]
        kind = kind_of(part, set(items))
        if kind == CAPTIONING:
            continue
        names = [*(vocabulary.get(part) or label_sets().get(part, ()))]
        names += sorted(set(items if kind == DETECTION else labels) - set(names) - {""})
        if kind == DETECTION:
            names = [*(name for name in names if name != NONE), NONE]
        candidates[part] = Candidates(names, multilabel=kind == DETECTION)
    return candidates
