"""`nlm evaluate --benchmark corpus`: a model's answers to the held-out questions of prepared data, and their scores."""

import argparse
from collections.abc import Sequence
from typing import Any

from nlm_jax.convert.formats import audio_config
from nlm_jax.core import remote
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import write_json, write_text
from nlm_jax.evaluate import ranking, runner
from nlm_jax.evaluate.corpus import questions, report, scores
from nlm_jax.evaluate.corpus.questions import HeldOutQuestion
from nlm_jax.evaluate.output_folder import METRICS, PREDICTIONS, REPORT, PredictionWriter, count_answered
from nlm_jax.evaluate.prediction_files import read_predictions
from nlm_jax.generate.model_args import load_model
from nlm_jax.generate.options import check_flags


def run(args: argparse.Namespace, console: Any) -> int:
    """Answers the unanswered questions, and writes predictions, metrics and a report to `args.out`.

    Raises:
      UserError: there is no model, no prepared data, no such split, or the folder contains other files of these names.
    """
    if not (args.model and args.data):
        raise UserError("--benchmark corpus needs --model and --data: a directory written by nlm prepare")
    if not args.out:
        raise UserError("give --out: a folder for the metrics and the report")
    if len(args.merging_alpha) > 1:
        raise UserError("--benchmark corpus takes one --merging-alpha at a time")
    if args.limit < 0 or args.batch_size < 1:
        raise UserError("--limit must not be negative, --batch-size must be at least 1")
    check_flags(args)
    data = args.data.split(",")
    held_out = list(questions.questions(data, args.split, audio_config(args.model).samples, args.limit))
    failed = answer_missing(args, held_out, console)
    if failed:
        console.print(f"{failed} questions were skipped: their audio is corrupt", highlight=False)
    rows = read_predictions(args.out / f"{PREDICTIONS}.jsonl", incomplete=True)
    predictions = scores.to_predictions(rows, held_out)
    base = scores.predict_baselines(data, args.split, predictions, held_out)
    figures = scores.task_figures(predictions, base)
    content = {"model": str(args.model), "data": data, "split": args.split, "left_out": failed, "tasks": figures}
    write_json(args.out / METRICS, content)
    lead = f"{args.model}: {len(predictions)} questions of split {args.split!r} of {args.data}."
    write_text(args.out / REPORT, report.report_page(lead, held_out, predictions, base, figures))
    console.print(report.terminal_table(figures))
    location = remote.with_urls(args.out / REPORT)
    console.print(f"{location}: scores of {len(predictions)} answers, with examples", highlight=False)
    return 0


def answer_missing(args: argparse.Namespace, held_out: Sequence[HeldOutQuestion], console: Any) -> int:
    """Answers the questions without a prediction; the model is only loaded if there are any.

    Returns:
      the number of questions without an answer.
    """
    answered = count_answered(args.out)
    todo = [q for q in held_out if not answered[q.part, q.id]]
    if not todo:
        return 0
    model = load_model(args, args.merging_alpha[0])
    responder = ranking.generated_replies(
        model, max_new_tokens=args.max_new_tokens, batch_size=args.batch_size, num_beams=args.num_beams
    )
    with runner.show_progress(console, "questions", len(held_out), len(held_out) - len(todo)) as advance:
        return runner.answer(
            todo, responder, PredictionWriter(args.out), runner.BATCHES_AHEAD * args.batch_size, advance
        )
