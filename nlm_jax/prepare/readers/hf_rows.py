"""Rows of datasets and the names of their audio: Parquet files, what `save_to_disk` writes, and recordings next to
`metadata.csv` or `metadata.jsonl` with a column `file_name` (the audio folders of `datasets`).

    row 5 of data/train.parquet          recordings
    audio: bytes                         data/train.parquet#row=5
    audio: [bytes, bytes]                data/train.parquet#row=5&clip=1, data/train.parquet#row=5&clip=2
    no audio, path: a.wav                a.wav
"""

import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nlm_jax.core import arrow
from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, Row
from nlm_jax.data.text import CLIP_MARK
from nlm_jax.prepare import audio_column, audio_sources
from nlm_jax.prepare.readers import columns, hf_cells, row_examples, tables, time_columns
from nlm_jax.prepare.readers.lookup import Lookup
from nlm_jax.prepare.rejects import Notice, Reject

METADATA = ("metadata.csv", "metadata.jsonl")
FILE = "file_name"
PATHS = ("audio_path_16KHz", "audio_path", "local_path", FILE, "path", "file", "audio_paths", "file_names", "files")
"""Columns of a dataset without audio with the path of a recording, or a list of several, by priority."""
BATCH_ROWS = 1024
"""Rows, without their audio, read at a time."""
ARROW = (".parquet", ".arrow")
SPLITS = ("train", "validation", "valid", "val", "dev", "test", "eval")
AudioRow = tuple[Row, tuple[str, ...]]
"""A row without its audio, and the names of its recordings."""


def files(path: pathlib.Path) -> list[pathlib.Path]:
    """The Parquet or Arrow files, or the tables of metadata, of a dataset; none if there is no dataset."""
    data_files = arrow.files(path)
    if data_files or not path.is_dir():
        is_metadata = path.suffix.lower() in (".csv", ".tsv", ".jsonl") and FILE in tables.column_names(path)
        return data_files or [path] * is_metadata
    return sorted(file for name in METADATA for file in path.rglob(name))


def column_names(path: pathlib.Path) -> frozenset[str]:
    """Names of the columns of a dataset, with those of audio; none if there is no dataset."""
    for file in files(path)[:1]:
        return frozenset(arrow.schema(file).names) if file.suffix in ARROW else tables.column_names(file)
    return frozenset()


def split_of(file: pathlib.Path, path: pathlib.Path) -> str:
    """The split of a file of a dataset.

    Args:
      file: the file.
      path: the dataset: a file or folder.

    Returns:
      Its folder in a `DatasetDict`, else what the name of a folder or the file begins with
      (`data/train-00000-of-00001.parquet`), else what `save_to_disk` noted; "" if nothing tells.
    """
    if (name := file.parent.name) in arrow.split_folders(file.parent.parent):
        return name
    inside = file.relative_to(path) if path.is_dir() else pathlib.Path(file.name)
    return next(filter(None, map(_split, reversed(inside.parts))), "") or _split(arrow.split_saved(file.parent))


def _split(name: str) -> str:
    word = name.replace(".", "-").replace("_", "-").replace("[", "-").split("-")[0]
    return word if word in SPLITS else ""


def rows(
    path: pathlib.Path, root: pathlib.Path, keep: Callable[[pathlib.Path], bool] = lambda file: True
) -> Iterator[AudioRow | Reject | Notice]:
    """The rows of a dataset, with the `split` of their file.

    Args:
      path: the dataset.
      root: folder of relative audio paths.
      keep: whether a file is read.

    Yields:
      Rows with their recordings; a reject for each without a recording; notices.

    Raises:
      UserError: a damaged file, or no column with audio.
    """
    for file in filter(keep, files(path)):
        split = {"split": name} if (name := split_of(file, path)) else {}
        for item in _arrow_rows(file, root) if file.suffix in ARROW else _metadata_rows(file, root):
            if isinstance(item, Reject | Notice):
                yield item
            else:
                row, recordings = item
                yield Row({**split, **row.values}, row.where), recordings


def convert_rows(
    items: Iterator[AudioRow | Reject | Notice], convert: Callable[[Row, tuple[str, ...]], Example | None]
) -> Iterator[Example | Reject | Notice | None]:
    """The example of every row; a row whose conversion raises becomes a reject, and the next one follows.

    Args:
      items: from `rows`; rejects and notices pass through.
      convert: the example of a row and its recordings; None for a row that is skipped.
    """
    for item in items:
        if isinstance(item, Reject | Notice):
            yield item
            continue
        row, recordings = item
        try:
            yield convert(row, recordings)
        except UserError as error:
            yield Reject(recordings[0], row.where, str(error).removeprefix(f"{row.where}: "))
        except Exception as error:  # a cell of an unexpected type: the other rows are read
            yield Reject(recordings[0], row.where, f"cannot be understood ({type(error).__name__}: {error})")


# --- Recordings next to a table of metadata ---


def _metadata_rows(file: pathlib.Path, root: pathlib.Path) -> Iterator[AudioRow | Reject | Notice]:
    lookup = Lookup(root)
    for row in tables.rows(file):
        if isinstance(row, Reject | Notice):
            yield row
            continue
        try:
            recording = _find(lookup, row.text(FILE, "file", "path", empty=False), file)
        except UserError as error:
            yield Reject("", row.where, str(error).removeprefix(f"{row.where}: "))
        else:
            yield row, (recording,)


def _find(lookup: Lookup, path: str, file: pathlib.Path) -> str:
    """The name of the recording that a file of rows calls `path`; a missing one is expected next to the file."""
    recording = lookup.find([path], file.parent, near=True)
    return audio_sources.name_of(file.parent / recording, lookup.root) if recording == path else recording


# --- Parquet and Arrow files ---


def _arrow_rows(file: pathlib.Path, root: pathlib.Path) -> Iterator[AudioRow | Reject | Notice]:
    schema, audio = arrow.schema(file), audio_column.of(file)
    path_column = _path_column(schema) if audio is None else ""
    if audio is None and not path_column:
        raise UserError(f"{file}: no column with audio; it has {', '.join(schema.names)}")
    audio_name = audio.name if audio else ""
    light = [n for n in schema.names if n != audio_name and not hf_cells.is_heavy(str(schema.field(n).type))]
    yield from _unused_times(file, [name for name in schema.names if name not in (audio_name, *light)])
    if not light:
        raise UserError(
            f"{file}: has a column {audio_name!r} alone; add one that says what is heard, such as label or caption"
        )
    features, lookup = arrow.features(file, schema), Lookup(root)
    yield from map(Notice, audio_column.notices(file))
    yield from _unnamed_classes(file, schema, features)
    table, counts, number = audio_sources.name_of(file, root), audio_column.counts(file), 0
    for batch in arrow.batches(file, light, BATCH_ROWS):
        for values in hf_cells.rows(batch.select(light), features):
            where, name = f"{file}: row {number}", audio_sources.row_name(table, number)
            try:
                recordings = (
                    _of_paths(file, lookup, values[path_column])
                    if path_column
                    else _of_audio(table, number, counts, values)
                )
                if not recordings:
                    raise UserError(f"names no recording in column {path_column or audio_name!r}")
            except UserError as error:
                yield Reject(name, where, str(error))
            else:
                values = {**values, "id": values.get("id") or name} if len(recordings) > 1 else values
                yield Row(values, where), recordings
            number += 1
    yield from lookup.notices()


def _path_column(schema: Any) -> str:
    """The column with paths of recordings: one of `PATHS`, or text with a name as in tables; "" without one."""
    named = [n for n in columns.matching(schema.names, columns.FILE) if "string" in str(schema.field(n).type)]
    return next((name for name in (*PATHS, *named) if name in schema.names), "")


def _of_paths(file: pathlib.Path, lookup: Lookup, cell: Any) -> tuple[str, ...]:
    """The recordings whose path, or list of paths, is in a cell; none if a path is missing.

    Raises:
      UserError: several recordings fit one of them.
    """
    paths = cell if isinstance(cell, list) else [cell]
    if not all(isinstance(path, str) and path.strip() for path in paths):
        return ()
    return tuple(_find(lookup, path, file) for path in paths)


def _of_audio(table: str, number: int, counts: Mapping[int, int] | None, values: Mapping[str, Any]) -> tuple[str, ...]:
    """The recordings in the audio column of a row.

    Args:
      table: name of the file.
      number: of the row.
      counts: row -> number of recordings (`audio_column.counts`); None for one each. Negative: arrays of one length,
        which are channels of one recording, unless the question has as many clips.
      values: the other cells of the row.
    """
    if counts is None:
        return (audio_sources.row_name(table, number),)
    count = counts[number]
    if count < 0:
        marks = max(str(values.get(name) or "").count(CLIP_MARK) for name in row_examples.PROMPT_COLUMNS)
        if count == -1 or marks != -count:
            return (audio_sources.row_name(table, number),)
    return tuple(audio_sources.row_name(table, number, clip) for clip in range(1, abs(count) + 1))


def _unused_times(file: pathlib.Path, heavy: list[str]) -> Iterator[Notice]:
    """Notices of columns of numbers that look like times of several labels."""
    for name in heavy:
        if time_columns.is_time(name):
            yield Notice(f"{file}: column {name!r} has lists of times, which are not used; give each label a row")


def _unnamed_classes(file: pathlib.Path, schema: Any, features: Mapping[str, Any]) -> Iterator[Notice]:
    """Notices of label columns with numbers that have no names."""
    for name in {*row_examples.LABEL_COLUMNS} & {*schema.names}:
        if "int" in str(schema.field(name).type) and "names" not in audio_column.element(features.get(name)):
            yield Notice(f"{file}: column {name!r} holds numbers without names; they are the answers as they are")
