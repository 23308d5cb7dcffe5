"""Datasets of the hub with an Audio column, saved as Parquet or by `save_to_disk`, and audio folders: recordings
beside `metadata.csv` or `metadata.jsonl`. What is asked depends on the columns, see `labels.told`."""

import dataclasses
import datetime
import json
import pathlib
from collections.abc import Iterator

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, Row, part_name
from nlm_jax.prepare.readers import columns, common, hf_rows, label_table, recording_facts, tables
from nlm_jax.prepare.readers.lookup import Lookup


def opens(path: pathlib.Path) -> bool:
    """A folder or file in one of the formats."""
    return bool(hf_rows.files(path))


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example]:
    """One question for each row; a row that says nothing about its recording is passed over, and counted.

    Raises:
      UserError: no dataset there, no audio in it, or no row that says anything.
    """
    if not hf_rows.files(path):
        raise UserError(f"{path}: neither Parquet files, nor a folder of save_to_disk, nor recordings with metadata")
    if timed := _timed(hf_rows.files(path)):
        lookup = Lookup(root)
        for file in timed:
            yield from common.unique(label_table.LabelTable(file, lookup, hf_rows.split_of(file, path)).examples())
        yield from lookup.notices()
        return
    yield from common.told_of(path, hf_rows.each(hf_rows.rows(path, root), asked), hf_rows.columns(path))


def _timed(files: list[pathlib.Path]) -> list[pathlib.Path]:
    """The files if they are tables of labels with times, such as a `metadata.csv` with start and end."""
    found = [file for file in files if tables.is_table(file) and label_table.fits(file)]
    return found if found == files and all(columns.layout(tables.header(file)).timed for file in found) else []


def asked(row: Row, names: tuple[str, ...]) -> Example:
    """The question about the recordings of a row, or about the part of each between its start and its end.

    Raises:
      UserError: the row says nothing that could be asked, or has times that are none.
    """
    row = unfolded(row)
    within = {k: v for k, v in row.values.items() if not isinstance(v, datetime.date | datetime.time)}  # times of a day
    start, end = columns.span(Row(within, row.where))
    if start is not None:
        names = tuple(part_name(name, start, end) for name in names)
    one = common.told(row, names[0], recording_facts.facts(row.values, sure=False))
    return dataclasses.replace(one, paths=names)


def unfolded(row: Row) -> Row:
    """A row together with the keys of its column `metadata`, where that is an object or JSON."""
    said = row.values.get("metadata")
    try:
        said = json.loads(said) if isinstance(said, str) else said
    except json.JSONDecodeError:
        return row
    return Row({**said, **row.values}, row.where) if isinstance(said, dict) else row
