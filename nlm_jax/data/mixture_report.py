"""Effective epochs of sources, domains, tasks and species, computed before training starts."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import rich.table
from jaxtyping import Float, Int

from nlm_jax.core.logging import human
from nlm_jax.data import taxonomy
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.train_stream import TrainStream

EXTREMES = 5
"""Species shown with the most and with the fewest epochs."""
COLUMNS = ("of", "name", "examples", "drawable", "share", "draws", "epochs")


def rows(corpus: Corpus, stream: TrainStream, positions: float) -> list[dict[str, Any]]:
    """Contents of `positions` positions of the stream by source, domain and task, and for the extreme species.

    Returns:
      Per name: `of` (source, domain, task or species), `examples` in the corpus, `drawable` ones (not left out by a
      factor 0 or a cap), its `share` of the stream, `draws` of its examples, and `epochs`, the mean number of draws of
      a drawable example.
    """
    expected = expected_draws(corpus, stream, positions)
    listed = rows_by("all", ["everything"], np.zeros(len(corpus), np.int32), expected, positions)
    for of, names, codes in (
        ("source", corpus.sources, corpus.part_of),
        ("domain", corpus.domains, corpus.domain),
        ("task", corpus.tasks, corpus.task),
    ):
        listed += rows_by(of, names, codes, expected, positions)
    names, species_of = taxonomy.species_codes(corpus.taxa)
    species = rows_by("species", names, species_of[corpus.taxon], expected, positions)
    species = [row for row in species if row["name"] and row["drawable"]]
    species.sort(key=lambda row: (-row["epochs"], row["name"]))
    return listed + (species if len(species) <= 2 * EXTREMES else species[:EXTREMES] + species[-EXTREMES:])


def expected_draws(corpus: Corpus, stream: TrainStream, positions: float) -> Float[np.ndarray, "N"]:
    """How often each example of the corpus is drawn in `positions` positions, on average."""
    expected = np.zeros(len(corpus), np.float32)
    for group, draws in stream.expected_draws(positions):
        of_member = draws[0] if group.cells is None else np.repeat(draws, group.cells.sizes)
        if group.members is None:
            expected[:] = of_member
        else:
            expected[group.members] = of_member
    return expected


def rows_by(
    of: str, names: Sequence[str], codes: Int[np.ndarray, "N"], expected: Float[np.ndarray, "N"], positions: float
) -> list[dict[str, Any]]:
    """A row for each of `names` that has examples.

    Args:
      of: what the names are, for the first column.
      names: of the sources, domains, tasks or species.
      codes: index into `names` of every example.
      expected: `expected_draws`.
      positions: that `expected` is for.
    """
    examples = np.bincount(codes, minlength=len(names))
    drawable = np.bincount(codes, weights=expected > 0, minlength=len(names)).astype(np.int64)
    draws = np.bincount(codes, weights=expected, minlength=len(names))
    return [
        {
            "of": of,
            "name": name,
            "examples": int(examples[k]),
            "drawable": int(drawable[k]),
            "share": float(draws[k] / positions) if positions else 0.0,
            "draws": round(float(draws[k]), 1),
            "epochs": round(float(draws[k] / drawable[k]), 4) if drawable[k] else 0.0,
        }
        for k, name in enumerate(names)
        if examples[k]
    ]


def table(listed: Sequence[dict[str, Any]], title: str) -> rich.table.Table:
    """`rows` as a table for the terminal."""
    view = rich.table.Table(title=title, title_justify="left", box=None, padding=(0, 1))
    for column in COLUMNS:
        view.add_column(column, justify="left" if column in ("of", "name") else "right", no_wrap=column != "name")
    for row in listed:
        view.add_row(*cells(row))
    total = listed[0]
    view.caption = f"{human(total['draws'])} examples are drawn: {total['epochs']:.3g} epochs of {total['drawable']}"
    view.caption_justify = "left"
    return view


def text(listed: Sequence[dict[str, Any]]) -> str:
    """`rows` as plain text with aligned columns."""
    lines = [COLUMNS, *(cells(row) for row in listed)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(COLUMNS))]
    return "".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines)


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """The values of a row as text, in the order of `COLUMNS`."""
    formatted = {"share": f"{row['share']:.2%}", "draws": human(row["draws"]), "epochs": f"{row['epochs']:.3g}"}
    return tuple(str(formatted.get(column, row[column])) for column in COLUMNS)


def lines(listed: Sequence[dict[str, Any]]) -> str:
    """`rows` as JSON lines, with `step` 0: they are computed before the first step."""
    return "".join(json.dumps({"step": 0, **row}, ensure_ascii=False) + "\n" for row in listed)
