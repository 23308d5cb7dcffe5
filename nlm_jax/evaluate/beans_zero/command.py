"""`nlm evaluate` for BEANS-Zero: predictions of a file or a model, their scores by both scorers, and a report."""

import argparse
from typing import Any

from nlm_jax.core.errors import UserError
from nlm_jax.evaluate.beans_zero import predict, results, synthetic
from nlm_jax.evaluate.output_folder import read_folder
from nlm_jax.evaluate.prediction_files import read_predictions, read_vocabulary


def run(args: argparse.Namespace, console: Any) -> int:
    """Answers the unanswered questions, scores, writes `metrics.json` and `report.html`, and prints the scores.

    Raises:
      UserError: contradictory flags, a file that is not in the official format, no such dataset or model.
    """
    if args.synthetic:
        if args.data:
            raise UserError("--synthetic writes the data: leave --data out")
        args.data = str(synthetic.write(args.synthetic))
        console.print(f"{args.data}: {synthetic.EACH} questions of each part")
        if not args.model and not args.predictions:
            return 0
    if bool(args.predictions) == bool(args.model):
        raise UserError("give either --predictions to score, or --model and --data to generate them")
    if not args.out:
        raise UserError("give --out: a folder for the metrics and the report")
    if args.out.exists() and not args.out.is_dir():
        raise UserError(f"--out {args.out}: is a file; give a folder")
    vocabulary = read_vocabulary(args.vocabulary)
    if args.predictions:
        rows = read_folder(args.predictions) if args.predictions.is_dir() else read_predictions(args.predictions)
        args.out.mkdir(parents=True, exist_ok=True)
        if not args.predictions.is_dir() and (repeated := len(rows) - len({row.key for row in rows})):
            console.print(f"{args.predictions}: {repeated} predictions repeat a question; all of them count")
        results.print_scores(console, results.score_and_report(args, rows, args.out, vocabulary))
        return 0
    figures: dict[float, dict[str, Any]] = {}
    for alpha, folder in predict.answer_by_alpha(args, vocabulary, console):
        outcome = results.score_and_report(args, read_folder(folder), folder, vocabulary, alpha)
        results.print_scores(console, outcome)
        figures[alpha] = outcome.figures
    if len(figures) > 1:
        results.compare_alphas(figures, args.out, console)
    return 0
