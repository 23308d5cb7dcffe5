"""`nlm evaluate`: scores of answers to BEANS-Zero."""

import argparse
import json
from typing import Any

from nlm_jax.core import remote

SUMMARY = "score answers to BEANS-Zero, by its own scorer and by that of BEANS-Next"
METRICS = "metrics.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `nlm evaluate`."""
    parser.add_argument("--benchmark", choices=("beans-zero",), default="beans-zero", help="the only one so far")
    parser.add_argument(
        "--predictions", type=remote.reads, required=True, help="JSON lines: prediction, label, id, dataset_name"
    )
    parser.add_argument("--out", type=remote.writes, required=True, help=f"folder for {METRICS}")
    parser.add_argument(
        "--vocabulary", type=remote.reads, help="JSON of part -> labels, for BEANS-Next; default: the file's own labels"
    )


def run(args: argparse.Namespace) -> int:
    """Scores the file, writes `metrics.json` and prints a table.

    Raises:
      UserError: a file that is not there or not in the official format.
    """
    from rich.console import Console

    from nlm_jax.evaluate.beans_zero import files
    from nlm_jax.evaluate.beans_zero.score import score, tied

    answers = files.read(args.predictions)
    found = score(answers, files.vocabulary(args.vocabulary))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / METRICS).write_text(json.dumps(found, indent=1), encoding="utf-8")
    console = Console()
    console.print(table(found))
    for part in found["beans_zero"]:
        rows = [answer for answer in answers if answer.dataset_name == part]
        if count := tied(part, rows):
            console.print(f"{part}: {count} of {len(rows)} answers are equally near several labels", highlight=False)
    console.print(f"{args.out / METRICS}: {len(answers)} answers scored", highlight=False)
    return 0


def table(found: dict[str, Any]):
    """Both scorers side by side, with what ties may have made of the first."""
    from rich.table import Table

    made = Table("part", "figure", "beans-zero", "with other ties", "beans-next", title="scores")
    for part, figures in found["beans_zero"].items():
        for name, value in figures.items():
            low, high = found["tie_interval"][part][name]
            other = f"{low:.4f} to {high:.4f}" if high > low else ""
            made.add_row(part, name, f"{value:.4f}", other, f"{found['beans_next'][part][name]:.4f}")
    return made
