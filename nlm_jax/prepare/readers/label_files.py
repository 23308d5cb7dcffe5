"""Label tables of any program as annotations: one of them, or the one in a folder of recordings."""

import pathlib
from collections.abc import Iterator

from nlm_jax.audio import formats
from nlm_jax.data.schema import Example
from nlm_jax.prepare.readers import common, label_table, tables
from nlm_jax.prepare.readers.lookup import Lookup
from nlm_jax.prepare.rejects import Notice, Reject

NAME = "labels.csv"


def opens(path: pathlib.Path) -> bool:
    """A label table, or a folder with some."""
    return bool(files(path))


def files(path: pathlib.Path) -> list[pathlib.Path]:
    """The label tables that a path is or has: `labels.csv` alone, else all with its columns but Raven's."""
    if path.is_file():
        return [path] * label_table.fits(path)
    if (path / NAME).is_file():
        return [path / NAME]
    return [file for file in listed(path) if label_table.fits(file) and not label_table.is_selections(file)]


def listed(path: pathlib.Path) -> list[pathlib.Path]:
    """The tables below a folder."""
    return sorted(filter(tables.is_table, formats.files_below(path)))


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
    """One question for each label of each row.

    Raises:
      UserError: a table without header, or an id that two different rows have.
    """
    lookup = Lookup(root)
    for file in files(path) or [path / NAME if path.is_dir() else path]:
        yield from common.unique(label_table.LabelTable(file, lookup).examples())
    yield from lookup.notices()
