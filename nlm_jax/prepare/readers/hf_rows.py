"""Rows of datasets and the names of their audio: Parquet files, what `save_to_disk` writes, and recordings beside
`metadata.csv` or `metadata.jsonl` with a column `file_name` (the audio folders of `datasets`)."""

import decimal
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from nlm_jax.core import arrow
from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, Row
from nlm_jax.data.text import CLIP_MARK
from nlm_jax.prepare import audio_column, audio_sources
from nlm_jax.prepare.readers import columns as meaning
from nlm_jax.prepare.readers import common, tables
from nlm_jax.prepare.readers.lookup import Lookup
from nlm_jax.prepare.rejects import Notice, Reject

METADATA = ("metadata.csv", "metadata.jsonl")
FILE = "file_name"
PATHS = ("audio_path_16KHz", "audio_path", "local_path", FILE, "path", "file", "audio_paths", "file_names", "files")
"""Columns of a dataset without audio that say where it is, the last ones with a list of several recordings."""
LIGHT = 1024
"""Rows without their audio that are read at once."""
ARROW = (".parquet", ".arrow")
SPLITS = ("train", "validation", "valid", "val", "dev", "test", "eval")
Stored = tuple[Row, tuple[str, ...]]
"""A row without its audio, and the names of its recordings."""


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
) -> Iterator[Stored | Reject | Notice]:
    """The rows of every file that is kept, with the `split` that their file belongs to; a row without any recording is
    a reject.

    Raises:
      UserError: a damaged file, or no column with audio.
    """
    for file in filter(keep, files(path)):
        split = {"split": name} if (name := split_of(file, path)) else {}
        for item in _stored(file, root) if file.suffix in ARROW else _listed(file, root):
            if isinstance(item, Reject | Notice):
                yield item
            else:
                yield Row({**split, **item[0].values}, item[0].where), item[1]


def each(
    found: Iterator[Stored | Reject | Notice], made: Callable[[Row, tuple[str, ...]], Example | None]
) -> Iterator[Example | Reject | Notice | None]:
    """The example `made` of each row; a row of which that raises a UserError is a reject, and the next one follows."""
    for item in found:
        if isinstance(item, Reject | Notice):
            yield item
            continue
        row, names = item
        try:
            yield made(row, names)
        except UserError as error:
            yield Reject(names[0], row.where, str(error).removeprefix(f"{row.where}: "))
        except Exception as error:  # whatever a strange cell does: the other rows go on
            yield Reject(names[0], row.where, f"cannot be understood ({type(error).__name__}: {error})")


def split_of(file: pathlib.Path, path: pathlib.Path) -> str:
    """The split of a file of the dataset at `path`: its folder in a `DatasetDict`, else what its folder or name begins
    with (`data/train-00000-of-00001.parquet`), else what `save_to_disk` noted; "" if nothing says it."""
    if (name := file.parent.name) in arrow.split_folders(file.parent.parent):
        return name
    inside = file.relative_to(path) if path.is_dir() else pathlib.Path(file.name)
    return next(filter(None, map(_split, reversed(inside.parts))), "") or _split(arrow.split_saved(file.parent))


def _split(name: str) -> str:
    word = name.replace(".", "-").replace("_", "-").replace("[", "-").split("-")[0]
    return word if word in SPLITS else ""


def _listed(file: pathlib.Path, root: pathlib.Path) -> Iterator[Stored | Reject | Notice]:
    lookup = Lookup(root)
    for row in tables.rows(file):
        if isinstance(row, Reject | Notice):
            yield row
            continue
        try:
            written = row.text(FILE, "file", "path", empty=False)
            name = _found(lookup, written, file)
        except UserError as error:
            yield Reject("", row.where, str(error).removeprefix(f"{row.where}: "))
        else:
            yield row, (name,)


def _stored(file: pathlib.Path, root: pathlib.Path) -> Iterator[Stored | Reject | Notice]:
    schema, column = arrow.schema(file), audio_column.of(file)
    path = next((n for n in (*PATHS, *_named(schema)) if n in schema.names), None) if column is None else None
    if column is None and path is None:
        raise UserError(f"{file}: no column with audio; it has {', '.join(schema.names)}")
    audio = column.name if column else None
    light = [n for n in schema.names if n != audio and not _heavy(str(schema.field(n).type))]
    for name in schema.names:
        if name not in (audio, *light) and meaning.is_time(name):
            yield Notice(f"{file}: column {name!r} has lists of times, which are not used; give each label a row")
    if not light:
        raise UserError(
            f"{file}: has a column {audio!r} alone; add one that says what is heard, such as label or caption"
        )
    features, counts = arrow.features(file, schema), audio_column.counts(file)
    yield from map(Notice, audio_column.notices(file))
    yield from _unnamed(file, schema, features)
    called, number, lookup = audio_sources.name_of(file, root), 0, Lookup(root)
    for batch in arrow.batches(file, light, LIGHT):
        for values in _rows(batch.select(light)):
            values = {key: named(features.get(key), value) for key, value in values.items()}
            where, whole = f"{file}: row {number}", audio_sources.row_name(called, number)
            try:
                names = _paths(file, lookup, values[path]) if path else _clips(called, number, counts, values)
            except UserError as error:
                names = ()
                yield Reject(whole, where, str(error))
            else:
                if not names:
                    yield Reject(whole, where, f"names no recording in column {path or audio!r}")
            if names:
                values = {**values, "id": values.get("id") or whole} if len(names) > 1 else values
                yield Row(values, where), names
            number += 1
    yield from lookup.notices()


def _rows(batch: Any) -> Iterator[dict[str, Any]]:
    """The rows of a batch; a cell that Python has no value for (a time in nanoseconds, text in no encoding) is None."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError, LookupError):
        for number in range(batch.num_rows):
            yield {name: _cell(batch.column(name)[number]) for name in batch.schema.names}


def _cell(cell: Any) -> Any:
    try:
        return cell.as_py()
    except (ValueError, OverflowError, LookupError):
        return None


def _named(schema: Any) -> list[str]:
    """Columns of text that are called as those of tables that name recordings."""
    return [n for n in meaning.named(schema.names, meaning.FILE) if "string" in str(schema.field(n).type)]


def _paths(file: pathlib.Path, lookup: Lookup, cell: Any) -> tuple[str, ...]:
    """Names of the recordings whose path, or list of paths, is in a cell; none if one of them is missing.

    Raises:
      UserError: several recordings fit one of them.
    """
    every = cell if isinstance(cell, list) else [cell]
    if not all(isinstance(one, str) and one.strip() for one in every):
        return ()
    return tuple(_found(lookup, one, file) for one in every)


def _found(lookup: Lookup, written: str, file: pathlib.Path) -> str:
    """The name of a recording beside a table of metadata, or a file of rows; one that is not there as it is written."""
    name = lookup.find([written], file.parent, near=True)
    return audio_sources.name_of(file.parent / name, lookup.root) if name == written else name


def _clips(called: str, number: int, counts: dict[int, int] | None, values: dict[str, Any]) -> tuple[str, ...]:
    """Names of the recordings in a row. Arrays of one length are channels, unless the question has as many clips."""
    count = 1 if counts is None else counts[number]
    if count < 0:
        marks = max(str(values.get(name) or "").count(CLIP_MARK) for name in common.ASKS)
        count = -count if marks == -count else 1
    elif counts is not None:
        return tuple(audio_sources.row_name(called, number, clip) for clip in range(1, count + 1))
    return (
        (audio_sources.row_name(called, number),)
        if count == 1
        else tuple(audio_sources.row_name(called, number, clip) for clip in range(1, count + 1))
    )


def _unnamed(file: pathlib.Path, schema: Any, features: dict[str, Any]) -> Iterator[Notice]:
    """Which columns of labels hold numbers that nothing gives names to."""
    for name in {*common.LABELS} & {*schema.names}:
        if "int" in str(schema.field(name).type) and "names" not in audio_column.element(features.get(name)):
            yield Notice(f"{file}: column {name!r} holds numbers without names; they are the answers as they are")


def named(feature: Any, value: Any) -> Any:
    """A value as its feature means it: names for the numbers of classes, also in lists and objects of any depth. A
    number that no class has is None."""
    if isinstance(feature, list):
        feature = {"_type": "List", "feature": feature[0] if feature else None}
    if isinstance(value, decimal.Decimal):
        return float(value)
    if not isinstance(feature, dict) or value is None:
        return value
    if isinstance(names := feature.get("names"), list):
        return names[value] if isinstance(value, int) and 0 <= value < len(names) else None
    inner = feature.get("feature") if feature.get("_type") in audio_column.LISTS else None
    if isinstance(value, list):
        return [named(inner, one) for one in value]
    fields = inner if isinstance(inner, dict) else feature  # a sequence of objects is stored as an object of lists
    if isinstance(value, dict):
        listed = isinstance(inner, dict)
        return {k: named([fields.get(k)] if listed else fields.get(k), one) for k, one in value.items()}
    return value


def _heavy(kind: str) -> bool:
    """Whether a column holds waveforms or bytes, which nobody reads as text."""
    return "binary" in kind or "float>" in kind or "double>" in kind or "halffloat" in kind or "item: float" in kind
