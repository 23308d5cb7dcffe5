"""The column of a Parquet or Arrow file that holds audio: what a cell of it is, how many recordings a row has, and the
range of integer samples, from which their scale follows."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from nlm_jax.audio import scale
from nlm_jax.core import arrow
from nlm_jax.core.errors import UserError

NAMES = ("audio", "wav", "waveform", "audios", "waveforms")
RATES = ("sampling_rate", "sample_rate")
"""Columns, and keys of metadata, that give the rate of bare samples."""
LIGHT = ("sampling_rate", "path")
"""Fields of an audio cell from which the number of recordings is read, so that their bytes are not."""
LISTS = ("List", "Sequence", "LargeList")
Form = Literal["one", "several", "arrays"]


@dataclasses.dataclass(frozen=True)
class AudioColumn:
    """Facts about the audio of a file that need no reading of samples."""

    name: str
    form: Form
    """One recording a row (a file, its path, or samples), a list of such, or a list of arrays, which are the channels
    of one recording or several ones."""
    samples: np.dtype | None
    """Type of samples that are stored as numbers."""
    rate: int | None
    """Hz, if `datasets` noted it."""
    others: tuple[str, ...]
    """Columns that may give the rate."""
    rated: bool
    """Whether anything gives the rate of bare samples."""


def of(file: pathlib.Path) -> AudioColumn | None:
    """The audio column of a file: an Audio feature, one that is called so, else one of bytes or samples with a rate.

    Raises:
      UserError: the file is damaged.
    """
    return _of(file, *_stamp(file))


@functools.lru_cache(256)
def _of(file: pathlib.Path, changed: int, size: int) -> AudioColumn | None:
    schema = arrow.schema(file)
    features = {name: element(feature) for name, feature in arrow.features(file, schema).items()}
    marked = [n for n in schema.names if features.get(n, {}).get("_type") == "Audio"]
    named = [name for name in NAMES if name in schema.names]
    shaped = [n for n in schema.names if _holds_sound(schema.field(n).type)]
    name = next(iter([*marked, *named, *shaped]), None)
    if name is None:
        return None
    kind, depth = _unlisted(schema.field(name).type)
    fields, rate = _fields(kind), features.get(name, {}).get("sampling_rate")
    samples = _number(_unlisted(fields["array"])[0]) if "array" in fields else _number(kind)
    form: Form = "one"
    types = arrow.installed().types
    encoded = any(is_(kind) for is_ in (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary))
    if depth and (fields or encoded or types.is_null(kind)):
        form = "several"
    elif depth > 1:
        form = "arrays"
    others = tuple(other for other in (*RATES, "metadata") if other in schema.names)
    rated = bool(rate or others or "sampling_rate" in fields)
    return AudioColumn(name, form, samples, rate if isinstance(rate, int) else None, others, rated)


def element(feature: Any) -> dict[str, Any]:
    """The metadata of `datasets` about the elements of a list column, in the format of each version."""
    while True:
        if isinstance(feature, list) and feature:
            feature = feature[0]
        elif isinstance(feature, dict) and feature.get("_type") in LISTS:
            feature = feature.get("feature")
        else:
            return feature if isinstance(feature, dict) else {}


def counts(file: pathlib.Path) -> dict[int, int] | None:
    """Row -> number of its recordings; None if every row has one. Negative: arrays of one length, see `AudioColumn`.

    Raises:
      UserError: the file is damaged.
    """
    column = of(file)
    return _counts(file, *_stamp(file)) if column is not None and column.form != "one" else None


@functools.lru_cache(64)
def _counts(file: pathlib.Path, changed: int, size: int) -> dict[int, int]:
    column, counts = of(file), {}
    arrays = column.form == "arrays"
    for cells in _columns(file, column.name if arrays else _light(file, column.name)):
        lengths = [0 if cell is None else len(cell) for cell in _lengths(cells)]
        inner = list(_lengths(cells)) if arrays else None
        for k, length in enumerate(lengths):
            alike = inner is not None and length and len(set(inner[k])) == 1
            counts[len(counts)] = -length if alike else length
    return counts


def _lengths(cells: Any) -> Iterator[list[int] | None]:
    """Per row the lengths of the elements of a list (0 if these are no lists), None for no list."""
    for cell in cells:
        if not cell.is_valid:
            yield None
        else:
            values = cell.values
            yield [0] * len(values) if not _is_list(values.type) else [len(v) if v.is_valid else 0 for v in values]


def bounds(file: pathlib.Path) -> scale.Bounds | None:
    """The smallest and the largest sample of a file whose samples are integers of an uncertain scale; else None.

    Raises:
      UserError: the file is damaged.
    """
    column = of(file)
    if column is None or column.samples is None or column.samples.kind not in "iu" or column.samples.itemsize <= 2:
        return None
    return _bounds(file, *_stamp(file))


@functools.lru_cache(64)
def _bounds(file: pathlib.Path, changed: int, size: int) -> scale.Bounds | None:
    column = of(file)
    extremes = _statistics(file, column.name) if file.suffix == ".parquet" else None
    if extremes is None:
        pieces = [(values.min(), values.max()) for values in _samples(file, column.name) if len(values)]
        extremes = [bound for piece in pieces for bound in piece]
    return (float(min(extremes)), float(max(extremes))) if extremes else None


def notices(file: pathlib.Path) -> Iterator[str]:
    """Assumptions about the samples of a file, a sentence each."""
    column = of(file)
    if column is None:
        return
    if (limits := bounds(file)) and (description := _described(column.samples, limits)):
        yield f"{file}: column {column.name!r} has {description}"
    if column.samples is not None and not column.rated:
        alternatives = " or ".join(RATES)
        yield f"{file}: no column {alternatives} gives the sample rate of {column.name!r}; 16000 Hz is assumed"


def _described(samples: np.dtype, limits: scale.Bounds) -> str:
    try:
        return scale.described(samples, *limits)
    except UserError:
        return ""  # the reason of its rejects


def _statistics(file: pathlib.Path, name: str) -> list[Any] | None:
    """Bounds of the samples by the file's own statistics, None if some row group has none."""
    with arrow.readable(file) as pyarrow, pyarrow.parquet.ParquetFile(file) as opened:
        leaf = next(k for k, path in _leaves(opened, name) if not path.endswith((".sampling_rate", ".path", ".bytes")))
        groups = [opened.metadata.row_group(g).column(leaf) for g in range(opened.num_row_groups)]
        if any(g.num_values and (g.statistics is None or not g.statistics.has_min_max) for g in groups):
            return None
        stats = [g.statistics for g in groups if g.num_values and g.statistics is not None]
        return [bound for s in stats for bound in (s.min, s.max)]


def _leaves(opened: Any, name: str) -> list[tuple[int, str]]:
    """Numbers and paths of the parts of a Parquet column, as in `audio.list.element.path`."""
    paths = [opened.schema.column(k).path for k in range(len(opened.schema))]
    return [(k, path) for k, path in enumerate(paths) if path == name or path.startswith(f"{name}.")]


def _light(file: pathlib.Path, name: str) -> str:
    """The part of a column of lists from which their lengths are read."""
    if file.suffix != ".parquet":
        return name
    with arrow.readable(file) as pyarrow, pyarrow.parquet.ParquetFile(file) as opened:
        paths = [path for _, path in _leaves(opened, name)]
    return next((path for field in LIGHT for path in paths if path.endswith(f".{field}")), name)


def _columns(file: pathlib.Path, name: str) -> Iterator[Any]:
    for batch in arrow.batches(file, [name]):
        yield batch.column(0)


def _samples(file: pathlib.Path, name: str) -> Iterator[np.ndarray]:
    for cells in _columns(file, name):
        while not _number(cells.type):
            cells = cells.field("array") if _fields(cells.type) else cells.flatten()
        yield cells.drop_null().to_numpy(zero_copy_only=False)


def _is_list(kind: Any) -> bool:
    types = arrow.installed().types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _unlisted(kind: Any) -> tuple[Any, int]:
    """The type within lists, and how many lists are around it."""
    depth = 0
    while _is_list(kind):
        kind, depth = kind.value_type, depth + 1
    return kind, depth


def _fields(kind: Any) -> dict[str, Any]:
    return {field.name: field.type for field in kind} if arrow.installed().types.is_struct(kind) else {}


def _number(kind: Any) -> np.dtype | None:
    types = arrow.installed().types
    if not (types.is_integer(kind) or types.is_floating(kind)):
        return None
    return np.dtype({"halffloat": "float16", "float": "float32", "double": "float64"}.get(str(kind), str(kind)))


def _holds_sound(kind: Any) -> bool:
    return bool({"bytes", "sampling_rate"} & _fields(_unlisted(kind)[0]).keys())


def _stamp(file: pathlib.Path) -> tuple[int, int]:
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    entry = file.stat()
    return entry.st_mtime_ns, entry.st_size
