"""Datasets of the hub with an Audio column, saved as Parquet or by `save_to_disk`, and audio folders: recordings
beside `metadata.csv` or `metadata.jsonl`. What is asked depends on the columns, see `labels.told`."""

import json
import pathlib
from collections.abc import Iterator

from nlm_jax.core.errors import UserError
from nlm_jax.data.corpora import labels, metadata, stored
from nlm_jax.data.schema import Example, Row


def opens(path: pathlib.Path) -> bool:
    """A folder or file in one of the formats."""
    return bool(stored.files(path))


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example]:
    """One question for each row; a row that says nothing about its recording is passed over, and counted.

    Raises:
      UserError: no dataset there, no audio in it, or no row that says anything.
    """
    if not stored.files(path):
        raise UserError(f"{path}: neither Parquet files, nor a folder of save_to_disk, nor recordings with metadata")
    rows = ((unfolded(row), name) for row, name in stored.rows(path, root))
    found = (labels.told(row, name, metadata.facts(row.values, sure=False)) for row, name in rows)
    yield from labels.told_of(path, found, stored.columns(path))


def unfolded(row: Row) -> Row:
    """A row together with the keys of its column `metadata`, where that is an object or JSON."""
    said = row.values.get("metadata")
    try:
        said = json.loads(said) if isinstance(said, str) else said
    except json.JSONDecodeError:
        return row
    return Row({**said, **row.values}, row.where) if isinstance(said, dict) else row
