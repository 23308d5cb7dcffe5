"""Selection tables of Raven (Cornell): a part of a recording a row, and what is heard in it."""

import pathlib
from collections.abc import Iterator

from nlm_jax.audio import formats
from nlm_jax.data.schema import Example
from nlm_jax.prepare.readers import label_table
from nlm_jax.prepare.readers.lookup import Lookup
from nlm_jax.prepare.rejects import Notice, Reject


def opens(path: pathlib.Path) -> bool:
    """Whether a path is a table whose header names the times of selections, or a folder with some."""
    return bool(files(path))


def files(path: pathlib.Path) -> list[pathlib.Path]:
    """The selection tables at or below a path, sorted."""
    every = sorted(formats.files_below(path)) if path.is_dir() else [path]
    return [file for file in every if label_table.is_selection_table(file)]


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
    """One question for each selection; for an empty table one with the answer None.

    The recording is named in the table (Begin File, Begin Path), or is next to it under the table's own name.
    """
    lookup = Lookup(root)
    for file in files(path) or [path]:
        yield from label_table.LabelTable(file, lookup).examples()
    yield from lookup.notices()
