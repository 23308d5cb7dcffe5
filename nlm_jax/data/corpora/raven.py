"""Selection tables of Raven (Cornell): tab-separated, a time window a row, and what was heard in it."""

import pathlib
import re
from collections.abc import Iterator

from nlm_jax.core.errors import UserError
from nlm_jax.data import recordings
from nlm_jax.data.corpora import labels, tables
from nlm_jax.data.report import Reject
from nlm_jax.data.schema import Example, Row

BEGIN, END = "begin time (s)", "end time (s)"
OFFSET = "file offset (s)"
"""Where a selection begins in its own file: in a table over several files, `BEGIN` counts through all of them."""
LABEL = ("species", "label", "common name", "annotation", "class", "tags", "sound type", "call type")
"""Columns that may hold the label: Raven's users name them as they like."""
FILE = ("begin file", "begin path")
STEM = re.compile(r"(\.table\.\d+)?(\.selections)?$", re.IGNORECASE)


def opens(path: pathlib.Path) -> bool:
    """A text file whose header names the times of selections, or a folder with some."""
    return bool(_tables(path))


def _tables(path: pathlib.Path) -> list[pathlib.Path]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [file for file in files if file.suffix.lower() in (".txt", ".tsv") and {BEGIN, END} <= tables.columns(file)]


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example]:
    """One question for each selection; one that is listed in two views (waveform and spectrogram) counts once.

    The recording is named in the table (Begin File), or is beside it under the table's own name.

    Raises:
      UserError: no column with labels, no recording, or times that are none.
    """
    for table in _tables(path) or [path]:
        yield from _selections(table, root)


def _selections(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject]:
    seen: set[tuple[str, ...]] = set()

    def selection(row: Row) -> Iterator[Example]:
        column = next((name for name in LABEL if row.values.get(name)), None)
        if column is None:
            raise UserError(f"{row.where}: no label; name its column one of {', '.join(LABEL)}")
        file = pathlib.PureWindowsPath(row.text(*FILE, default="")).name
        if not file:
            file = labels.recording(path.parent, stem(path), row.where, root)
        elif (path.parent / file).is_file():
            file = recordings.name_of(path.parent / file, root)
        begin, end = labels.seconds(row, BEGIN), labels.seconds(row, END)
        if begin is None or end is None:
            raise UserError(f"{row.where}: {BEGIN} and {END} are needed")
        start = labels.seconds(row, OFFSET)
        start = begin if start is None else start
        key = (file, f"{start:.4f}", f"{end - begin:.4f}", row.values[column])
        if key not in seen:
            seen.add(key)
            yield labels.example(row, file, row.values[column], start, start + end - begin)

    yield from labels.each(tables.rows(path), selection)


def stem(path: pathlib.Path) -> str:
    """`dawn.Table.1.selections.txt` -> `dawn`."""
    return STEM.sub("", path.stem)
