"""Parquet files and what `datasets.save_to_disk` writes, without the `datasets` package: rows batch by batch, single
rows at random. Audio columns of tens of gigabytes pass through a few megabytes of memory.
"""

import bisect
import collections
import contextlib
import functools
import itertools
import json
import os
import pathlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from nlm_jax.core.errors import UserError

BATCH = 16
"""Rows read at once."""
SLABS, OPEN = 8, 4
"""Batches of a Parquet file, and files, that random access keeps."""


def installed() -> Any:
    """The pyarrow package with its Parquet part.

    Raises:
      UserError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError("the dataset is read with pyarrow; pip install 'nlm_jax[data]'") from None
    return pyarrow


def files(path: pathlib.Path) -> list[pathlib.Path]:
    """The Parquet files at or below a path, else its Arrow files; of `save_to_disk` those that its state names."""
    if not path.is_dir():
        return [path] if path.suffix in (".parquet", ".arrow") and path.is_file() else []
    parquet = sorted(path.rglob("*.parquet"))
    arrow = sorted(p for p in path.rglob("*.arrow") if not p.name.startswith(("cache-", "tmp")))  # of its map()
    return parquet or [file for file in arrow if file.name in _named(file.parent, file.name)]


def _json(file: pathlib.Path) -> dict[str, Any]:
    """An object in a file of JSON; an empty one if there is none."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(file.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}


@functools.lru_cache(64)
def _state(folder: pathlib.Path) -> dict[str, Any]:
    return _json(folder / "state.json")


def _named(folder: pathlib.Path, name: str) -> frozenset[str]:
    with contextlib.suppress(KeyError, TypeError):
        return frozenset(entry["filename"] for entry in _state(folder)["_data_files"])
    return frozenset([name])


def split_saved(folder: pathlib.Path) -> str:
    """The split that `save_to_disk` noted in a folder, "" if it noted none."""
    split = _state(folder).get("_split")
    return split if isinstance(split, str) else ""


def split_folders(folder: pathlib.Path) -> list[str]:
    """The splits of a `DatasetDict`, which are its folders; none if it is no such."""
    splits = _json(folder / "dataset_dict.json").get("splits")
    return [str(split) for split in splits] if isinstance(splits, list) else []


@contextlib.contextmanager
def readable(file: pathlib.Path) -> Iterator[Any]:
    """pyarrow, whose errors inside become a UserError that names the file."""
    pyarrow = installed()
    try:
        yield pyarrow
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{file}: not a readable {file.suffix[1:]} file ({reason}); fetch it again") from error


def _stream(pyarrow: Any, mapped: Any) -> Any:
    """The reader of a mapped file: of a stream, as `datasets` writes them, or of an Arrow file."""
    whole = mapped.size() >= 6 and mapped.read(6) == b"ARROW1"
    mapped.seek(0)
    return pyarrow.ipc.open_file(mapped) if whole else pyarrow.ipc.open_stream(mapped)


def schema(file: pathlib.Path) -> Any:
    """The Arrow schema of a file. Raises UserError if it is damaged."""
    with readable(file) as pyarrow:
        if file.suffix == ".parquet":
            return pyarrow.parquet.read_schema(file)
        with pyarrow.memory_map(str(file)) as mapped:
            return _stream(pyarrow, mapped).schema


def batches(file: pathlib.Path, columns: Sequence[str] | None = None, rows: int = BATCH) -> Iterator[Any]:
    """Record batches of a file of at most `rows`, of `columns` only if they are named.

    Raises:
      UserError: the file is damaged.
    """
    with readable(file) as pyarrow:
        if file.suffix == ".parquet":
            with pyarrow.parquet.ParquetFile(file) as opened:
                yield from opened.iter_batches(rows, columns=columns)
            return
        with pyarrow.memory_map(str(file)) as mapped:
            reader = _stream(pyarrow, mapped)
            every = reader if hasattr(reader, "__iter__") else map(reader.get_batch, range(reader.num_record_batches))
            for batch in every:
                batch = batch if columns is None else batch.select(columns)
                for start in range(0, batch.num_rows, rows):
                    yield batch.slice(start, rows)


def features(file: pathlib.Path, columns: Any) -> dict[str, Any]:
    """Metadata of `datasets` about the columns: in the schema, or in `dataset_info.json` next to the file."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        return dict(json.loads(columns.metadata[b"huggingface"])["info"]["features"])
    with contextlib.suppress(OSError, KeyError, TypeError, ValueError):
        return dict(json.loads((file.parent / "dataset_info.json").read_text(encoding="utf-8"))["features"])
    return {}


def value(cell: Any) -> Any:
    """A cell as Python has it; a list of numbers becomes an array, one of lists or objects a list of such values."""
    types = installed().types
    if not cell.is_valid:
        return None
    if types.is_struct(cell.type):
        return {name: value(cell[name]) for name in cell}
    if types.is_list(cell.type) or types.is_large_list(cell.type) or types.is_fixed_size_list(cell.type):
        kind = cell.values.type
        if types.is_integer(kind) or types.is_floating(kind):
            return cell.values.to_numpy(zero_copy_only=False)
        return [value(one) for one in cell.values]
    return cell.as_py()


def row(file: pathlib.Path, number: int, columns: Sequence[str]) -> dict[str, Any]:
    """Cells of one row; any row of any file, in any order and from any thread.

    Raises:
      UserError: no such file or row, or a damaged file.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    with readable(file):
        stat = file.stat()
        opened = _opened(file, stat.st_mtime_ns, stat.st_size, tuple(columns))
        if number >= opened.rows:
            raise UserError(f"{file}: has {opened.rows} rows, none with number {number}")
        return {name: value(cell) for name, cell in opened.cells(number).items()}


class _Mapped:
    """An Arrow file in mapped memory: nothing is read before it is looked at."""

    def __init__(self, file: pathlib.Path, columns: Sequence[str]):
        pyarrow = installed()
        self.table = _stream(pyarrow, pyarrow.memory_map(str(file))).read_all().select(columns)
        self.rows = self.table.num_rows

    def cells(self, number: int) -> dict[str, Any]:
        return {name: self.table.column(name)[number] for name in self.table.column_names}


class _Parquet:
    """A Parquet file: batches of a row group are decoded in turn, the last few are cached for neighboring rows."""

    def __init__(self, file: pathlib.Path, columns: Sequence[str]):
        self.file = installed().parquet.ParquetFile(file, memory_map=True)
        sizes = [self.file.metadata.row_group(k).num_rows for k in range(self.file.num_row_groups)]
        self.starts = [0, *itertools.accumulate(sizes)]
        self.rows, self.columns, self.lock = self.starts[-1], list(columns), threading.Lock()
        self.recent: collections.deque[tuple[int, Any]] = collections.deque(maxlen=SLABS)
        self.group, self.next, self.batches = -1, 0, iter(())

    def cells(self, number: int) -> dict[str, Any]:
        with self.lock:
            begin, batch = self._batch(number)
        return {name: batch.column(name)[number - begin] for name in self.columns}

    def _batch(self, number: int) -> tuple[int, Any]:
        for begin, batch in self.recent:
            if begin <= number < begin + batch.num_rows:
                return begin, batch
        group = bisect.bisect_right(self.starts, number) - 1
        if group != self.group or number < self.next:
            self.group, self.next = group, self.starts[group]
            self.batches = self.file.iter_batches(BATCH, row_groups=[group], columns=self.columns, use_threads=False)
        while True:
            begin, batch = self.next, next(self.batches)
            self.next += batch.num_rows
            self.recent.append((begin, batch))
            if number < self.next:
                return begin, batch


@functools.lru_cache(OPEN)
def _opened(file: pathlib.Path, changed: int, size: int, columns: tuple[str, ...]) -> _Mapped | _Parquet:
    return (_Parquet if file.suffix == ".parquet" else _Mapped)(file, columns)


if hasattr(os, "register_at_fork"):  # locks may be held by threads that the child does not have
    os.register_at_fork(after_in_child=_opened.cache_clear)
