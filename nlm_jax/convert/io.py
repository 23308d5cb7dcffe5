"""Reading and writing tensor files, one tensor at a time.

A file read is a dict from name to a numpy view of the memory-mapped file: opening costs nothing, and slicing a view
reads only that slice from disk. Writing takes the header's shapes first and then streams each tensor, so neither
direction ever holds a whole model in host memory. safetensors is read and written here directly (its header is a length
and JSON), which gives bfloat16 without torch.
"""

import contextlib
import dataclasses
import functools
import json
import math
import os
import pathlib
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_dtypes
import numpy as np

from nlm_jax.convert.torch_file import read_torch, state_dict, unwrapped
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import atomic, read_json, write_text

DTYPES = {
    "BOOL": np.dtype(bool),
    "U8": np.dtype("uint8"),
    "I8": np.dtype("int8"),
    "I16": np.dtype("int16"),
    "U16": np.dtype("uint16"),
    "F16": np.dtype("float16"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I32": np.dtype("int32"),
    "U32": np.dtype("uint32"),
    "F32": np.dtype("float32"),
    "F64": np.dtype("float64"),
    "I64": np.dtype("int64"),
    "U64": np.dtype("uint64"),
}
"""safetensors' name of each dtype. In the order of that library's enumeration: it sorts a file by it, largest first."""
_CODES = {dtype: code for code, dtype in DTYPES.items()}
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


def read_header(path: pathlib.Path) -> tuple[dict[str, dict], dict[str, str], int]:
    """(entries by name, metadata, offset of the data) of a safetensors file.

    Raises:
      UserError: not a safetensors file, or one that was cut short.
    """
    with open(path, "rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 1 << 62
        size = os.path.getsize(path)
        if length > size - 8:
            raise UserError(f"{path}: not a safetensors file, or cut short while it was copied; fetch it again")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise UserError(f"{path}: the header is not JSON, so this is not a safetensors file") from error
    if not isinstance(header, dict) or not all(_is_entry(e) for k, e in header.items() if k != "__metadata__"):
        raise UserError(f"{path}: the header is not that of a safetensors file; fetch or export it again")
    metadata = header.pop("__metadata__", {})
    if unknown := {e["dtype"] for e in header.values()} - set(DTYPES):
        raise UserError(f"{path}: holds tensors of type {', '.join(sorted(unknown))}, which are not supported")
    end = max((e["data_offsets"][1] for e in header.values()), default=0)
    if 8 + length + end > size:
        raise UserError(f"{path}: {8 + length + end - size} bytes are missing at its end; fetch it again")
    return header, metadata, 8 + length


def _is_entry(entry: Any) -> bool:
    """Whether a value of a header describes a tensor: dtype, shape, and where its bytes begin and end."""
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        return False
    shape, ends = entry.get("shape"), entry.get("data_offsets")
    if not isinstance(shape, list) or not isinstance(ends, list) or len(ends) != 2:
        return False
    return all(isinstance(n, int) and n >= 0 for n in (*shape, *ends)) and ends[0] <= ends[1]


def read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Views of every tensor of one file; nothing is read yet."""
    header, _, start = read_header(path)
    data = np.memmap(path, np.uint8, "r")
    views = {}
    for name, entry in header.items():
        a, b = (start + offset for offset in entry["data_offsets"])
        dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
        if b - a != math.prod(shape) * dtype.itemsize:
            raise UserError(f"{path}: {name} claims shape {shape} but holds {b - a} bytes; the file is damaged")
        views[name] = data[a:b].view(dtype).reshape(shape)
    return views


def to_torch(array: np.ndarray):
    """A torch tensor with a copy of `array`, bfloat16 included."""
    import torch

    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(np.array(array.view(np.int16))).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))


def read_tensors(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Views of all tensors of a file (safetensors, `.pt`, `.pth`) or of a directory (one safetensors file, or shards).

    Names are those of the model itself, see `torch_file.state_dict`.

    Raises:
      UserError: nothing readable there, a shard missing, or no tensors inside.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        if (path / INDEX).is_file():
            return unwrapped(_read_shards(path))
        if not (path / SINGLE).is_file():
            raise UserError(f"{path}: holds neither {SINGLE} nor {INDEX}; a checkpoint directory has one of them")
        return unwrapped(read_safetensors(path / SINGLE))
    if not path.is_file():
        raise UserError(f"{path}: no such file or directory")
    if path.suffix == ".safetensors":
        return unwrapped(read_safetensors(path))
    return state_dict(read_torch(path), str(path))


def _read_shards(path: pathlib.Path) -> dict[str, np.ndarray]:
    files = read_json(path / INDEX).get("weight_map")
    if not isinstance(files, dict) or not files or not all(isinstance(file, str) for file in files.values()):
        raise UserError(f"{path / INDEX}: holds no weight_map from names to files; fetch it again")
    views: dict[str, np.ndarray] = {}
    for file in sorted(set(files.values())):
        if not (path / file).is_file():
            raise UserError(f"{path / file}: named by {INDEX} but not there; fetch the missing shard")
        views |= read_safetensors(path / file)
    for name, file in files.items():
        if name not in views:
            raise UserError(f"{path / file}: {name} is named by {INDEX} but is not in the file")
    return views


def write_config(path: pathlib.Path, value: Mapping[str, Any]) -> None:
    """Writes a config byte for byte as the official class does: `json.dumps(indent=2, sort_keys=True)`."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True))


@dataclasses.dataclass(frozen=True)
class Entry:
    """A tensor about to be written: its header, and its content in parts that follow one another along axis 0."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    parts: Callable[[], Iterator[np.ndarray]]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


Progress = Callable[[str], None]
"""Called with each tensor's name as it is read or written; its `expect`, if it has one, with their number first."""


def expect(progress: Progress | None, count: int) -> None:
    """Tells a bar that `count` more tensors follow."""
    if hasattr(progress, "expect"):
        progress.expect(count)


def write_safetensors(
    path: pathlib.Path,
    entries: Iterable[Entry],
    metadata: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> None:
    """Streams `entries` into one file, byte for byte as the safetensors library would write it.

    The file appears whole or not at all. With several processes all of them make the parts (that may gather a sharded
    array) and the first one writes.
    """
    codes = list(DTYPES)
    entries = list(entries)
    expect(progress, len(entries))
    entries = sorted(entries, key=lambda e: (-codes.index(_CODES[e.dtype]), e.name))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    offset = 0
    for entry in entries:
        ends = [offset, offset := offset + entry.nbytes]
        header[entry.name] = {"dtype": _CODES[entry.dtype], "shape": list(entry.shape), "data_offsets": ends}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    writes = jax.process_index() == 0
    with atomic(path) if writes else contextlib.nullcontext(os.devnull) as part_file, open(part_file, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for entry in entries:
            for part in entry.parts():
                if writes:
                    file.write(
                        np.ascontiguousarray(part).astype(entry.dtype, copy=False).reshape(-1).view(np.uint8).data
                    )
            if progress:
                progress(entry.name)
        if writes and file.tell() != 8 + len(text) + offset:
            raise AssertionError(f"{path}: wrote {file.tell()} bytes, the header promises {8 + len(text) + offset}")


def write_sharded(
    directory: pathlib.Path,
    entries: Sequence[Entry],
    metadata: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    max_shard_bytes: int = 5 * 10**9,
) -> None:
    """One `model.safetensors`, or with HF's index shards of at most `max_shard_bytes` (a larger tensor has its own)."""
    shards: list[list[Entry]] = [[]]
    for entry in entries:
        if shards[-1] and sum(e.nbytes for e in shards[-1]) + entry.nbytes > max_shard_bytes:
            shards.append([])
        shards[-1].append(entry)
    if len(shards) == 1:
        write_safetensors(directory / SINGLE, shards[0], metadata, progress)
        return
    expect(progress, len(entries))
    progress = progress and functools.partial(progress)  # without `expect`: all are counted
    places = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_safetensors(directory / file, shard, metadata, progress)
        places |= {entry.name: file for entry in shard}
    if jax.process_index() == 0:
        write_config(
            directory / INDEX, {"metadata": {"total_size": sum(e.nbytes for e in entries)}, "weight_map": places}
        )
