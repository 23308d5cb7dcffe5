"""Rows of datasets and the names of their audio: Parquet files, what `save_to_disk` writes, and recordings beside
`metadata.csv` or `metadata.jsonl` with a column `file_name` (the audio folders of `datasets`)."""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from nlm_jax.core.errors import UserError
from nlm_jax.data import arrow, recordings
from nlm_jax.data.corpora import tables
from nlm_jax.data.schema import Row

METADATA = ("metadata.csv", "metadata.jsonl")
FILE = "file_name"
PATHS = ("audio_path_16KHz", "audio_path", "local_path", FILE, "path", "file")
"""Columns of a dataset without audio that say where it is."""
LIGHT = 1024
"""Rows without their audio that are read at once."""
ARROW = (".parquet", ".arrow")
SPLITS = ("train", "validation", "valid", "val", "dev", "test", "eval")


def files(path: pathlib.Path) -> list[pathlib.Path]:
    """The Parquet or Arrow files, or the tables of metadata, that a dataset consists of."""
    found = arrow.files(path)
    if found or not path.is_dir():
        return found or [path] * (path.suffix.lower() in (".csv", ".tsv", ".jsonl") and FILE in tables.columns(path))
    return sorted(p for name in METADATA for p in path.rglob(name))


def columns(path: pathlib.Path) -> frozenset[str]:
    """Names of the columns of a dataset, those with audio included; none where there is no dataset."""
    for file in files(path)[:1]:
        if file.suffix not in ARROW:
            return tables.columns(file)
        return frozenset(arrow.schema(file).names)
    return frozenset()


def rows(
    path: pathlib.Path, root: pathlib.Path, keep: Callable[[pathlib.Path], bool] = lambda file: True
) -> Iterator[tuple[Row, str]]:
    """(row without its audio, name of the audio) of every file that is kept. Rows get the `split` of their file.

    Raises:
      UserError: a damaged file, or no column with audio.
    """
    every = files(path)
    splits = {file: split_of(file.relative_to(path) if path.is_dir() else file) for file in every}
    divided = len(set(splits.values())) > 1  # one split alone divides nothing
    for file in filter(keep, every):
        split = {"split": splits[file]} if divided and splits[file] else {}
        for row, name in _stored(file, root) if file.suffix in ARROW else _listed(file, root):
            yield Row({**split, **row.values}, row.where), name


def split_of(file: pathlib.Path) -> str:
    """The split that a file's folder or name begins with: `test/data-00000-of-00001.arrow`, `data/train-0.parquet`."""
    words = [part.replace(".", "-").replace("_", "-").split("-")[0] for part in file.parts]
    return next((word for word in reversed(words) if word in SPLITS), "")


def _listed(file: pathlib.Path, root: pathlib.Path) -> Iterator[tuple[Row, str]]:
    for row in tables.rows(file):
        yield row, recordings.name_of(file.parent / row.text(FILE, "file", "path", empty=False), root)


def _stored(file: pathlib.Path, root: pathlib.Path) -> Iterator[tuple[Row, str]]:
    schema, said = arrow.schema(file), arrow.features(file, arrow.schema(file))
    audio = arrow.audio_column(file, schema)
    path = next((n for n in PATHS if n in schema.names), None) if audio is None else None
    if audio is None and path is None:
        raise UserError(f"{file}: no column with audio; it has {', '.join(schema.names)}")
    light = [n for n in schema.names if n != audio and not _heavy(str(schema.field(n).type))]
    names = {n: v["names"] for n, v in said.items() if isinstance(v, dict) and isinstance(v.get("names"), list)}
    called, number = recordings.name_of(file, root), 0
    for batch in arrow.batches(file, light, LIGHT) if light else _bare(file, audio):
        for values in batch.select(light).to_pylist():
            for key in names.keys() & values.keys():  # classes are stored as numbers
                values[key] = _named(names[key], values[key])
            there = recordings.name_of(file.parent / str(values[path]), root) if path else ""
            yield Row(values, f"{file}: row {number}"), there or recordings.row_name(called, number)
            number += 1


def _bare(file: pathlib.Path, audio: str) -> Iterator[Any]:
    raise UserError(f"{file}: has a column {audio!r} alone; add one that says what is heard, such as label or caption")


def _named(names: list[str], code: Any) -> Any:
    return names[code] if isinstance(code, int) and 0 <= code < len(names) else None


def _heavy(kind: str) -> bool:
    """Whether a column holds waveforms or bytes, which nobody reads as text."""
    return "binary" in kind or "float>" in kind or "double>" in kind or "halffloat" in kind or "item: float" in kind
