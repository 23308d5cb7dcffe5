"""How often training will hear what: effective epochs of sources, domains, tasks and species, before it begins."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import rich.table
from jaxtyping import Float

from nlm_jax.core.logging import human
from nlm_jax.data import taxonomy
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.mixture import Stream

EXTREMES = 5
"""Species shown with the most and with the fewest epochs."""
COLUMNS = ("of", "name", "examples", "drawable", "share", "draws", "epochs")


def rows(corpus: Corpus, stream: Stream, draws: float) -> list[dict[str, Any]]:
    """What `draws` positions of the stream come to, by source, domain, task, and for the extreme species.

    Returns:
      Per name: `of` (what it is), `examples` in the corpus, `drawable` ones (not left out by a factor 0 or a cap), its
      `share` of the stream, `draws` of it, and `epochs`: how often each drawable example comes, in the mean.
    """
    passes = per_example(corpus, stream, draws)
    out = table_of("all", ["everything"], np.zeros(len(corpus), np.int32), passes, draws)
    for of, names, codes in (
        ("source", corpus.sources, corpus.part_of),
        ("domain", corpus.domains, corpus.domain),
        ("task", corpus.tasks, corpus.task),
    ):
        out += table_of(of, names, codes, passes, draws)
    names, code_of = taxonomy.species_codes(corpus.taxa)
    found = [r for r in table_of("species", names, code_of[corpus.taxon], passes, draws) if r["name"] and r["drawable"]]
    found.sort(key=lambda r: (-r["epochs"], r["name"]))
    return out + (found if len(found) <= 2 * EXTREMES else found[:EXTREMES] + found[-EXTREMES:])


def per_example(corpus: Corpus, stream: Stream, draws: float) -> Float[np.ndarray, "N"]:
    """How often each example comes in `draws` positions, in the mean."""
    out = np.zeros(len(corpus), np.float32)
    for group, passes in stream.passes(draws):
        each = passes[0] if group.cells is None else np.repeat(passes, group.cells.sizes)
        if group.members is None:
            out[:] = each
        else:
            out[group.members] = each
    return out


def table_of(
    of: str, names: Sequence[str], codes: np.ndarray, passes: np.ndarray, draws: float
) -> list[dict[str, Any]]:
    """A row for each of `names`, by the code of every example."""
    examples = np.bincount(codes, minlength=len(names))
    drawable = np.bincount(codes, weights=passes > 0, minlength=len(names)).astype(np.int64)
    drawn = np.bincount(codes, weights=passes, minlength=len(names))
    return [
        {
            "of": of,
            "name": name,
            "examples": int(examples[k]),
            "drawable": int(drawable[k]),
            "share": float(drawn[k] / draws) if draws else 0.0,
            "draws": round(float(drawn[k]), 1),
            "epochs": round(float(drawn[k] / drawable[k]), 4) if drawable[k] else 0.0,
        }
        for k, name in enumerate(names)
        if examples[k]
    ]


def table(listed: list[dict[str, Any]], title: str) -> rich.table.Table:
    """`rows` for the terminal."""
    view = rich.table.Table(title=title, title_justify="left", box=None, padding=(0, 1))
    for column in COLUMNS:
        view.add_column(column, justify="left" if column in ("of", "name") else "right", no_wrap=column != "name")
    for one in listed:
        view.add_row(*cells(one))
    whole = listed[0]
    view.caption = f"{human(whole['draws'])} examples are drawn: {whole['epochs']:.3g} epochs of {whole['drawable']}"
    view.caption_justify = "left"
    return view


def text(listed: list[dict[str, Any]]) -> str:
    """`rows` as a plain table for a file, columns aligned."""
    lines = [COLUMNS, *(cells(one) for one in listed)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(COLUMNS))]
    return "".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines)


def cells(one: dict[str, Any]) -> tuple[str, ...]:
    """A row as people read it."""
    shown = {"share": f"{one['share']:.2%}", "draws": human(one["draws"]), "epochs": f"{one['epochs']:.3g}"}
    return tuple(str(shown.get(column, one[column])) for column in COLUMNS)


def lines(listed: list[dict[str, Any]]) -> str:
    """`rows` as JSON lines; `step` 0, for they stand before the first."""
    return "".join(json.dumps({"step": 0, **one}, ensure_ascii=False) + "\n" for one in listed)
