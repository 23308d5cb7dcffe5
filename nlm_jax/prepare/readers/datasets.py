"""Datasets of the hub with an Audio column, saved as Parquet or by `save_to_disk`, and audio folders: recordings
next to `metadata.csv` or `metadata.jsonl`. The question depends on the columns, see `row_examples.metadata_example`."""

import dataclasses
import datetime
import json
import pathlib
from collections.abc import Iterator, Sequence

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, Row, part_name
from nlm_jax.prepare.readers import (
    columns,
    hf_rows,
    label_table,
    recording_facts,
    row_examples,
    row_streams,
    spans,
    tables,
)
from nlm_jax.prepare.readers.lookup import Lookup
from nlm_jax.prepare.rejects import Notice, Reject


def opens(path: pathlib.Path) -> bool:
    """Whether a path is a folder or file in one of the formats."""
    return bool(hf_rows.files(path))


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
    """One question for each row; rows that say nothing about their recording are rejects.

    Raises:
      UserError: not a dataset, without audio, or no row with a label.
    """
    files = hf_rows.files(path)
    if not files:
        raise UserError(f"{path}: neither Parquet files, nor a folder of save_to_disk, nor recordings with metadata")
    if not _are_timed_tables(files):
        items = hf_rows.convert_rows(hf_rows.rows(path, root), row_example)
        yield from row_streams.without_skipped(path, items, hf_rows.column_names(path))
        return
    lookup = Lookup(root)
    for file in files:
        table = label_table.LabelTable(file, lookup, hf_rows.split_of(file, path))
        yield from row_streams.unique_examples(table.examples())
    yield from lookup.notices()


def _are_timed_tables(files: Sequence[pathlib.Path]) -> bool:
    """Whether all files are label tables with times, such as a `metadata.csv` with start and end."""
    return all(
        tables.is_table(file) and label_table.is_label_table(file) and columns.layout(tables.header(file)).timed
        for file in files
    )


def row_example(row: Row, recordings: Sequence[str]) -> Example:
    """The question about the recordings of a row, or about the part of each between its start and its end.

    Raises:
      UserError: the row has no label, or an invalid time.
    """
    row = with_metadata(row)
    numbers = {k: v for k, v in row.values.items() if not isinstance(v, datetime.date | datetime.time)}
    start, end = spans.span(Row(numbers, row.where))  # dates and times of day are not times in a recording
    if start is not None:
        recordings = [part_name(name, start, end) for name in recordings]
    facts = recording_facts.of_columns(row.values, taxonomic=False)
    return dataclasses.replace(row_examples.metadata_example(row, recordings[0], facts), paths=tuple(recordings))


def with_metadata(row: Row) -> Row:
    """A row with the keys of its column `metadata` as further columns, if that is an object or JSON of one."""
    metadata = row.values.get("metadata")
    try:
        metadata = json.loads(metadata) if isinstance(metadata, str) else metadata
    except json.JSONDecodeError:
        return row
    return Row({**metadata, **row.values}, row.where) if isinstance(metadata, dict) else row
