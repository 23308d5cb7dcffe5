"""A folder of recordings: with `labels.csv` (file, label[, start, end, ...]), or with one sub-folder for each class."""

import pathlib
from collections.abc import Iterator

from nlm_jax.core.errors import UserError
from nlm_jax.data import recordings
from nlm_jax.data.corpora import labels, tables
from nlm_jax.data.schema import Example, Row

TABLE = "labels.csv"


def opens(path: pathlib.Path) -> bool:
    """Any folder, or a table such as `labels.csv`."""
    found = tables.columns(path) if path.suffix.lower() in (".csv", ".tsv") else frozenset()
    return path.is_dir() or bool({"file", "path"} & found and {"label", "species"} & found)


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example]:
    """One question for each row of `labels.csv`, or for each recording in a sub-folder, which names its class.

    Raises:
      UserError: neither is there, or a row without file or label.
    """
    table = path if path.is_file() else path / TABLE
    if table.is_file():
        yield from labels.unique(labels.each(tables.rows(table), _row))
        return
    found = False
    for file in sorted(p for p in path.glob("*/**/*") if p.suffix.lower() in labels.AUDIO):
        found = True
        name = recordings.name_of(file, root)
        label = file.relative_to(path).parts[0].replace("_", " ")
        yield labels.example(Row({}, str(file)), name, label)
    if not found:
        raise UserError(f"{path}: neither {TABLE} nor sub-folders with recordings ({', '.join(labels.AUDIO)}) in it")


def _row(row: Row) -> Iterator[Example]:
    start, end = (labels.seconds(row, name) for name in ("start", "end"))
    if (start is None) != (end is None):
        raise UserError(f"{row.where}: start and end belong together; give both or neither")
    file, label = row.text("file", "path", empty=False), row.text("label", "species", empty=False)
    yield labels.example(row, file, label, start, end)
