"""What comes of scored answers: `metrics.json`, the report, a table on the screen, and alphas beside each other."""

import argparse
import collections
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
from nlm_jax.evaluate.beans_zero.score import Answer, by_part, score, tied

METRICS, REPORT, SWEEP = "metrics.json", "report.html", "sweep.json"


def tell(
    args: argparse.Namespace,
    rows: Sequence[Answer],
    out: pathlib.Path,
    vocabulary: Mapping[str, Sequence[str]],
    console,
    alpha: float | None = None,
) -> dict[str, Any]:
    """Scores answers, writes and prints what came of it; the figures of both scorers."""
    parts, spoken = by_part(rows), None
    if any(kind_of(part) == CAPTIONING for part in parts) and not args.no_spice:
        spoken, why = spice.found()
        if why:
            console.print(f"captions are scored by CIDEr-D alone: {why}")
    try:
        found = score(rows, vocabulary, spoken)
    except spice.Failed as error:
        console.print(f"captions are scored by CIDEr-D alone: {error}")
        found = score(rows, vocabulary)
    write_text(out / METRICS, json.dumps(found, indent=1), shared=True)
    for made in tables(found):
        console.print(made)
    for part, mine in parts.items():
        if count := tied(part, mine):
            console.print(f"{part}: {count} of {len(mine)} answers are equally near several labels")
    if all(row.prediction.strip().isdigit() for row in rows):
        console.print(
            "all answers are numbers: beans-zero's own evaluator would read integers and fail (docs/evaluate.md)"
        )
    shown = report.worst_of_all(parts)
    facts = {"answers": str(len(rows)), "predictions": str(args.predictions or out), "data": str(args.data or "")}
    if args.model:
        facts |= {"model": str(args.model), "replies": args.score, "merging alpha": f"{alpha:g}"}
    write_text(out / REPORT, report.page_of(found, parts, shown, clips(args, shown, console), facts), shared=True)
    console.print(f"{out / METRICS}, {REPORT}: {len(rows)} answers scored")
    return found


def clips(args: argparse.Namespace, shown: Sequence[Answer], console) -> dict[tuple[str, str], dataset.Item]:
    """(part, id) -> its question and sound, of the answers that are shown; none where the data is not at hand."""
    if not args.data:
        return {}
    wanted = collections.Counter((answer.dataset_name, answer.id) for answer in shown)
    try:
        audio = audio_config(args.model) if args.model else OFFICIAL
        rows = (head for head in dataset.heads(args.data) if wanted[head.part, head.id])
        return {(item.part, item.id): item for item in dataset.read(rows, audio)}
    except UserError as error:
        console.print(f"the report has no sounds: {error}")
        return {}


def tables(found: dict[str, Any]) -> Iterator[Any]:
    """A table of each scorer, the first with what ties may have made of it."""
    from rich.table import Table

    made = Table("part", "figure", "value", "with other ties", title="scores by beans-zero")
    for part, figures in found["beans_zero"].items():
        for name, value in figures.items():
            low, high = found["tie_interval"][part][name]
            made.add_row(part, name, f"{value:.4f}", f"{low:.4f} to {high:.4f}" if high > low else "")
    yield made
    made = Table("part", "figure", "value", title="scores by BEANS-Next")
    for part, figures in found["beans_next"].items():
        for name, value in figures.items():
            made.add_row(part, name, f"{value:.4f}")
    yield made


def compare(found: Mapping[float, dict[str, Any]], out: pathlib.Path, console) -> None:
    """Writes what each alpha scores, and prints the main figure of every part by alpha."""
    from rich.table import Table

    write_text(
        out / SWEEP, json.dumps({f"{alpha:g}": figures for alpha, figures in found.items()}, indent=1), shared=True
    )
    write_text(out / REPORT, report.sweep(found), shared=True)
    made = Table("part", "figure", *(f"alpha {alpha:g}" for alpha in found), title="by merging alpha")
    for part, name, values in report.by_alpha(found, "beans_zero"):
        made.add_row(part, name, *(f"{value:.4f}" for value in values))
    console.print(made)
    console.print(f"{out / SWEEP}, {REPORT}: {len(found)} alphas")
