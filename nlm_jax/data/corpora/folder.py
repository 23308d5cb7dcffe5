"""A folder of recordings: with `labels.csv` (file, label[, start, end, ...]), or with one sub-folder for each class."""

import pathlib
from collections.abc import Iterator

from nlm_jax.core.errors import UserError
from nlm_jax.data.corpora import labels
from nlm_jax.data.schema import Example, Row

TABLE = "labels.csv"


def opens(path: pathlib.Path) -> bool:
    """Any folder."""
    return path.is_dir()


def examples(path: pathlib.Path) -> Iterator[Example]:
    """One question for each row of `labels.csv`, or for each recording in a sub-folder, which names its class.

    Raises:
      UserError: neither is there, or a row without file or label.
    """
    if (path / TABLE).is_file():
        for row in labels.table(path / TABLE):
            start, end = (labels.seconds(row, name) for name in ("start", "end"))
            if (start is None) != (end is None):
                raise UserError(f"{row.where}: start and end belong together; give both or neither")
            file, label = row.text("file", "path", empty=False), row.text("label", "species", empty=False)
            yield labels.example(row, file, label, start, end)
        return
    found = False
    for file in sorted(p for p in path.glob("*/**/*") if p.suffix.lower() in labels.AUDIO):
        found = True
        name = file.relative_to(path)
        yield labels.example(Row({}, str(file)), name.as_posix(), name.parts[0].replace("_", " "))
    if not found:
        raise UserError(f"{path}: neither {TABLE} nor sub-folders with recordings ({', '.join(labels.AUDIO)}) in it")
