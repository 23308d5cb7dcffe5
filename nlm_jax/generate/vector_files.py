"""Vectors of recordings as NPZ or Parquet files, written as they come: they are never all in memory."""

import contextlib
import functools
import itertools
import json
import pathlib
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from nlm_jax.core.errors import UserError

SUFFIXES = (".npz", ".parquet")
COLUMNS = ("file", "start", "end", "embedding")

Row = tuple[str, float, float, np.ndarray]
"""(file, start, end, embedding f32[D]); times in seconds."""


def writer(file: pathlib.Path) -> Callable[[Iterable[Row]], tuple[int, int]]:
    """The function that writes rows to `file`, by its suffix, and returns their number and D.

    Raises:
      UserError: pyarrow is not installed.
    """
    if file.suffix == ".npz":
        return functools.partial(write_npz, file)
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise UserError("--out: Parquet is written with pyarrow; pip install 'nlm_jax[data]', or write .npz") from None
    return functools.partial(write_parquet, file)


def write_npz(file: pathlib.Path, rows: Iterable[Row]) -> tuple[int, int]:
    """Writes the columns file, start, end and embedding f32[N, D].

    An array begins with its shape, and N is known only at the end. Until then the columns are temporary files next to
    `file`, which appears once it is complete. The disk needs space for the vectors twice.

    Returns:
      N and D; 0 and 0 if there are no rows, and nothing is written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as folder:
        columns = {name: pathlib.Path(folder, name) for name in COLUMNS}
        count, width, longest = _write_columns(columns, rows)
        if not count:
            return 0, 0
        complete = pathlib.Path(folder, "npz")
        with zipfile.ZipFile(complete, "w") as archive:  # as np.savez, whose argument `file` excludes such a column
            for name, dtype, shape in (
                ("file", np.dtype(f"<U{longest}"), (count,)),
                ("start", np.dtype("<f8"), (count,)),
                ("end", np.dtype("<f8"), (count,)),
                ("embedding", np.dtype("<f4"), (count, width)),
            ):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as out, columns[name].open("rb") as column:
                    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(out, header)
                    if name == "file":
                        out.writelines(np.array(json.loads(line), dtype).tobytes() for line in column)
                    else:
                        shutil.copyfileobj(column, out)
        complete.replace(file)
    return count, width


def _write_columns(files: Mapping[str, pathlib.Path], rows: Iterable[Row]) -> tuple[int, int, int]:
    """Writes each column to its file; returns the number of rows, D, and the length of the longest file name."""
    count = width = longest = 0
    with contextlib.ExitStack() as stack:
        out = {name: stack.enter_context(path.open("wb")) for name, path in files.items()}
        for name, start, end, embedding in rows:
            out["file"].write(json.dumps(name).encode() + b"\n")
            out["start"].write(np.array(start, "<f8").tobytes())
            out["end"].write(np.array(end, "<f8").tobytes())
            out["embedding"].write(np.asarray(embedding, "<f4").tobytes())
            count, width, longest = count + 1, len(embedding), max(longest, len(name))
    return count, width, longest


def write_parquet(file: pathlib.Path, rows: Iterable[Row]) -> tuple[int, int]:
    """Writes the same columns in groups of a thousand rows; returns N and D."""
    import pyarrow
    import pyarrow.parquet

    types = (pyarrow.string(), pyarrow.float64(), pyarrow.float64(), pyarrow.list_(pyarrow.float32()))
    schema, count, width, rows = pyarrow.schema(list(zip(COLUMNS, types, strict=True))), 0, 0, iter(rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    with pyarrow.parquet.ParquetWriter(file, schema) as out:
        while group := list(itertools.islice(rows, 1_000)):
            arrays = [
                pyarrow.array(list(values), dtype)
                for values, dtype in zip(zip(*group, strict=True), types, strict=True)
            ]
            out.write_batch(pyarrow.record_batch(arrays, schema=schema))
            count, width = count + len(group), len(group[0][-1])
    return count, width
