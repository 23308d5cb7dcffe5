"""Scores and report of BEANS-Zero predictions: `metrics.json`, `report.html`, and the same across merging alphas."""

import argparse
import collections
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nlm_jax.convert.audio import OFFICIAL
from nlm_jax.convert.formats import audio_config
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import write_text
from nlm_jax.evaluate.beans_zero import dataset, report, spice
from nlm_jax.evaluate.beans_zero.parts import CAPTIONING, kind_of
from nlm_jax.evaluate.beans_zero.score import by_part, count_tied, score_predictions
from nlm_jax.evaluate.output_folder import METRICS, REPORT
from nlm_jax.evaluate.prediction_files import PredictionRow

SWEEP = "sweep.json"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The scores of some predictions, and what to tell the user about them."""

    figures: dict[str, Any]
    """As `score_predictions` returns them."""
    notes: tuple[str, ...]
    """Sentences for the terminal."""


def score_and_report(
    args: argparse.Namespace,
    rows: Sequence[PredictionRow],
    out: pathlib.Path,
    vocabulary: Mapping[str, Sequence[str]],
    alpha: float | None = None,
) -> Outcome:
    """Scores predictions, and writes `metrics.json` and `report.html`.

    Args:
      args: of `nlm evaluate`.
      rows: the predictions.
      out: an existing folder.
      vocabulary: part -> labels that replace the benchmark's, for BEANS-Next's scorer.
      alpha: the merging alpha of the model, if a model was run.
    """
    notes, parts = [], by_part(rows)
    captioned = any(kind_of(part) == CAPTIONING for part in parts)
    scorer, missing = spice.find_scorer() if captioned and not args.no_spice else (None, "")
    try:
        figures = score_predictions(rows, vocabulary, scorer)
    except spice.SpiceFailed as error:
        figures, missing = score_predictions(rows, vocabulary), str(error)
    if missing:
        notes.append(f"captions are scored by CIDEr-D only: {missing}")
    for part, members in parts.items():
        if tied := count_tied(part, members):
            notes.append(f"{part}: {tied} of {len(members)} predictions are equally near several labels")
    if all(row.prediction.strip().isdigit() for row in rows):
        notes.append("all predictions are numbers: beans-zero's own evaluator would read integers and fail "
                     "(docs/evaluate.md)")  # fmt: skip
    write_text(out / METRICS, json.dumps(figures, indent=1), shared=True)
    examples = report.worst_of_all(parts)
    try:
        questions = questions_of(args, examples)
    except UserError as error:
        questions = {}
        notes.append(f"the report has no audio: {error}")
    facts = {"predictions": str(len(rows)), "source": str(args.predictions or out), "data": str(args.data or "")}
    if args.model:
        facts |= {"model": str(args.model), "replies": args.score, "merging alpha": f"{alpha:g}"}
    write_text(out / REPORT, report.report_page(figures, parts, examples, questions, facts), shared=True)
    return Outcome(figures, (*notes, f"{out / METRICS}, {REPORT}: {len(rows)} predictions scored"))


def questions_of(
    args: argparse.Namespace, rows: Sequence[PredictionRow]
) -> dict[tuple[str, str], dataset.BenchmarkItem]:
    """(part, id) -> question with audio, of some predictions; empty without `--data`.

    Raises:
      UserError: the data or the model's configuration cannot be read.
    """
    if not args.data:
        return {}
    keys = collections.Counter(row.key for row in rows)
    audio = audio_config(args.model) if args.model else OFFICIAL
    selected = (row for row in dataset.read_rows(args.data) if keys[row.part, row.id])
    return {(item.part, item.id): item for item in dataset.read_questions(selected, audio)}


def print_scores(console: Any, outcome: Outcome) -> None:
    """Prints the table of each scorer, and the notes."""
    for table in score_tables(outcome.figures):
        console.print(table)
    for note in outcome.notes:
        console.print(note)


def score_tables(figures: dict[str, Any]) -> Iterator[Any]:
    """A table of rich for each scorer; BEANS-Zero's with the interval over ties between labels."""
    from rich.table import Table

    table = Table("part", "figure", "value", "range over ties", title="BEANS-Zero's scorer")
    for part, values in figures["beans_zero"].items():
        for name, value in values.items():
            low, high = figures["tie_interval"][part][name]
            table.add_row(part, name, f"{value:.4f}", f"{low:.4f} to {high:.4f}" if high > low else "")
    yield table
    table = Table("part", "figure", "value", title="BEANS-Next's scorer")
    for part, values in figures["beans_next"].items():
        for name, value in values.items():
            table.add_row(part, name, f"{value:.4f}")
    yield table


def compare_alphas(figures: Mapping[float, dict[str, Any]], out: pathlib.Path, console: Any) -> None:
    """Writes the figures of every merging alpha to `sweep.json` and a report, and prints the main ones.

    Args:
      figures: alpha -> figures, as `score_predictions` returns them.
      out: the folder above those of the alphas.
      console: to print on.
    """
    from rich.table import Table

    by_name = {f"{alpha:g}": values for alpha, values in figures.items()}
    write_text(out / SWEEP, json.dumps(by_name, indent=1), shared=True)
    write_text(out / REPORT, report.alpha_page(figures), shared=True)
    table = Table("part", "figure", *(f"alpha {alpha:g}" for alpha in figures), title="by merging alpha")
    for part, name, values in report.main_by_alpha(figures, "beans_zero"):
        table.add_row(part, name, *(f"{value:.4f}" for value in values))
    console.print(table)
    console.print(f"{out / SWEEP}, {REPORT}: {len(figures)} alphas")
