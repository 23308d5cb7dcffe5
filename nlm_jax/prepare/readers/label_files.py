"""Label tables of any program as annotations: one of them, or those in a folder of recordings."""

import pathlib
from collections.abc import Iterator

from nlm_jax.audio import formats
from nlm_jax.data.schema import Example
from nlm_jax.prepare.readers import label_table, row_streams, tables
from nlm_jax.prepare.readers.lookup import Lookup
from nlm_jax.prepare.rejects import Notice, Reject

NAME = "labels.csv"


def opens(path: pathlib.Path) -> bool:
    """Whether a path is a label table, or a folder with some."""
    return bool(files(path))


def files(path: pathlib.Path) -> list[pathlib.Path]:
    """The label tables at a path: `labels.csv` alone if a folder has it, else all below it except Raven's."""
    if path.is_file():
        return [path] * label_table.is_label_table(path)
    if (path / NAME).is_file():
        return [path / NAME]
    every = tables_below(path)
    return [f for f in every if label_table.is_label_table(f) and not label_table.is_selection_table(f)]


def tables_below(path: pathlib.Path) -> list[pathlib.Path]:
    """The tables of text below a folder, sorted."""
    return sorted(filter(tables.is_table, formats.files_below(path)))


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
    """One question for each label of each row.

    Raises:
      UserError: a table without header, or an id that two different rows have.
    """
    lookup = Lookup(root)
    for file in files(path) or [path / NAME if path.is_dir() else path]:
        yield from row_streams.unique_examples(label_table.LabelTable(file, lookup).examples())
    yield from lookup.notices()
