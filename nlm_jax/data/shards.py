"""Records of a prepared corpus: clips (16-bit audio with a JSON header) and examples (JSON), in ArrayRecord files.

A clip record is `NLM1`, the header's length (4 bytes, little endian), the header in JSON, and the samples: FLAC or
plain 16-bit PCM, mono, 16 kHz.
"""

import collections
import contextlib
import hashlib
import io
import itertools
import json
import os
import pathlib
import struct
import threading
import weakref
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import soundfile
from array_record.python import array_record_module
from jaxtyping import Float

from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import atomic, printable

Encoding = Literal["flac", "pcm16"]
MAGIC = b"NLM1"
EXAMPLES_PER_SHARD = 65_536
SCALE = np.float32(1.0 / 32768.0)
READ_ATTEMPTS = 50
"""How often a shard may be evicted from the cache before a record of it was read."""
# One record a chunk, so that a read touches one record; FLAC does not shrink further.
READ_OPTIONS = "readahead_buffer_size:0,footer_prefetch_bytes:0"
"""A footer fetched ahead would make opening a shard take three times as long."""
CLIP_OPTIONS, EXAMPLE_OPTIONS = "group_size:1,uncompressed", "group_size:1,zstd:3"


def encode_clip(
    wave: Float[np.ndarray, "T"], name: str, encoding: Encoding = "flac", facts: Mapping[str, Any] | None = None
) -> tuple[bytes, dict[str, Any]]:
    """A clip record. 16-bit audio is decoded bit for bit.

    Args:
      wave: the clip at 16 kHz in [-1, 1].
      name: of its recording.
      encoding: of the samples in the record.
      facts: further fields of the header.

    Returns:
      The bytes of the record, and its header.
    """
    pcm = _pcm(wave)
    header = {
        "name": name,
        "samples": int(pcm.size),
        "encoding": encoding,
        "sha256": hashlib.sha256(pcm.tobytes()).hexdigest(),
        **(facts or {}),
    }
    if encoding == "flac":
        buffer = io.BytesIO()
        soundfile.write(buffer, pcm, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        payload = buffer.getvalue()
    else:
        payload = pcm.tobytes()
    text = json.dumps(header, ensure_ascii=False).encode("utf-8", "backslashreplace")
    return MAGIC + struct.pack("<I", len(text)) + text + payload, header


def _pcm(wave: Float[np.ndarray, "T"]) -> np.ndarray:
    return np.clip(np.rint(wave * 32768.0), -32768, 32767).astype("<i2")


def pcm_digest(wave: Float[np.ndarray, "T"]) -> int:
    """The first 64 bits of the `sha256` in the header of a clip."""
    return int.from_bytes(hashlib.sha256(_pcm(wave).tobytes()).digest()[:8])


def decode_clip(record: bytes, start: int = 0, samples: int | None = None) -> Float[np.ndarray, "T"]:
    """Samples of a clip record, f32[T].

    Args:
      record: the bytes.
      start: first sample.
      samples: number of samples, fewer if the clip ends before; None = to its end.

    Raises:
      CorruptRecord: not a clip record, or its samples are damaged, not finite, or not as many as in its header.
    """
    header, payload = clip_header(record)
    count = header["samples"] - start if samples is None else min(samples, header["samples"] - start)
    if header["encoding"] == "pcm16":
        if payload.nbytes != 2 * header["samples"]:
            raise CorruptRecord(f"{header['name']}: {payload.nbytes // 2} samples, but {header['samples']} were stored")
        return np.multiply(np.frombuffer(payload, "<i2")[start : start + count], SCALE, dtype=np.float32)
    try:
        with soundfile.SoundFile(io.BytesIO(payload)) as file:
            if start:
                file.seek(start)
            wave = file.read(count, dtype="float32")
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise CorruptRecord(f"{header['name']}: damaged FLAC data") from error
    if wave.shape != (count,):
        raise CorruptRecord(f"{header['name']}: {wave.size} samples, but {count} were stored")
    if not np.isfinite(wave).all():  # impossible in FLAC, but the bytes may be of another format
        raise CorruptRecord(f"{header['name']}: samples that are NaN or infinite")
    return wave


def clip_header(record: bytes) -> tuple[dict[str, Any], memoryview]:
    """Header and payload (not copied) of a clip record.

    Raises:
      CorruptRecord: not a clip record, or its header is damaged.
    """
    try:
        if record[:4] != MAGIC:
            raise CorruptRecord("a record without the mark of a clip")
        (size,) = struct.unpack_from("<I", record, 4)
        return json.loads(record[8 : 8 + size]), memoryview(record)[8 + size :]
    except (struct.error, ValueError) as error:
        if isinstance(error, CorruptRecord):
            raise
        raise CorruptRecord("a record with a damaged header") from error


class CorruptRecord(ValueError):
    """A record is not what was written. The pipeline counts and replaces its example."""


def write_records(path: pathlib.Path, records: Iterable[bytes], options: str) -> int:
    """Writes an ArrayRecord file atomically. Returns the number of records."""
    count = 0
    with atomic(path) as part, contextlib.closing(array_record_module.ArrayRecordWriter(str(part), options)) as writer:
        for record in records:
            writer.write(record)
            count += 1
    return count


@runtime_checkable
class ShardSource(Protocol):
    """Provides local copies of shards that are not in their directory; a copy may be evicted at any time."""

    def use(self, name: str) -> bool:
        """Whether the shard has a local copy; marks it as used now."""

    def stamp(self, name: str) -> int | None:
        """Distinguishes the local copy from earlier ones; None if there is no copy."""

    def fetch(self, name: str) -> pathlib.Path:
        """The local copy, downloaded if necessary."""


class Records:
    """Random access to numbered ArrayRecord files `<stem>-00000.arrayrecord`; opened at first use, pickled closed.

    Args:
      directory: of the files.
      stem: of their names.
      source: of local copies; None = the files are in `directory`.
    """

    def __init__(self, directory: pathlib.Path, stem: str, source: ShardSource | None = None):
        self.directory, self.stem, self.source = directory, stem, source
        self.number = next(_NUMBERS)  # key of its shards in `OPEN`
        weakref.finalize(self, OPEN.close, self.number).atexit = False

    def read(self, shard: int, record: int) -> bytes:
        """Bytes of one record.

        Raises:
          UserError: the file is missing.
          CorruptRecord: the file or the record is damaged.
        """
        if self.source:
            return self._read_fetched(shard, record)
        return read_record(OPEN.get(self.number, shard) or self._opened(shard), record)

    def _opened(self, shard: int) -> "Shard":
        path = shard_path(self.directory, self.stem, shard)
        if not path.is_file():
            raise UserError(f"{path}: missing; copy the prepared directory whole, or run nlm prepare again")
        return OPEN.put(self.number, shard, Shard(open_shard(path), path))

    def _read_fetched(self, shard: int, record: int) -> bytes:
        """A record of a shard from `source`. A copy that is evicted while it is read is fetched again."""
        name = shard_name(self.stem, shard)
        failed = None  # stamp of the copy in which the record was damaged
        for _ in range(READ_ATTEMPTS):
            reader = OPEN.get(self.number, shard)
            try:
                if reader is None or not self.source.use(name):
                    reader = self._fetched(shard, name)
                return read_record(reader, record)
            except CorruptRecord:
                OPEN.close(self.number, [shard])
                stamp = self.source.stamp(name)
                if stamp is not None and stamp == failed:
                    raise
                failed = stamp
        raise UserError(f"{self.directory / name}: evicted from the cache before it could be read; raise data.cache_gb")

    def _fetched(self, shard: int, name: str) -> "Shard":
        """A new reader of a fetched shard."""
        path = self.source.fetch(name)
        evicted = [s for s in OPEN.of(self.number) if not self.source.stamp(shard_name(self.stem, s))]
        OPEN.close(self.number, evicted)  # an evicted file takes disk space as long as it is open
        return OPEN.put(self.number, shard, Shard(open_shard(path), self.directory / name))

    def __getstate__(self) -> dict:
        return {"directory": self.directory, "stem": self.stem, "source": self.source}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)


class Shard(NamedTuple):
    """An open shard, and its path for messages."""

    reader: Any
    path: pathlib.Path


class OpenShards:
    """The open shards of this process, keyed by the number of their `Records` and their own.

    Systems limit the number of open files, and a corpus may have more shards, so the least recently used are closed.

    Args:
      limit: of shards that are open at a time.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self._shards: collections.OrderedDict[tuple[int, int], Shard] = collections.OrderedDict()
        self._lock = threading.RLock()  # reentrant: garbage collection of a `Records` closes its shards, anywhere

    def get(self, records: int, shard: int) -> Shard | None:
        """The open shard; None if it is not open."""
        with self._lock:
            opened = self._shards.get((records, shard))
            if opened:
                self._shards.move_to_end((records, shard))
            return opened

    def put(self, records: int, shard: int, opened: Shard) -> Shard:
        """Adds an open shard. One that is removed for it is closed when nothing reads it any more."""
        with self._lock:
            self._shards[records, shard] = opened
            self._shards.move_to_end((records, shard))
            while len(self._shards) > self.limit:
                self._shards.popitem(last=False)
        return opened

    def of(self, records: int) -> list[int]:
        """Numbers of the open shards of one `Records`."""
        with self._lock:
            # Over a copy: allocations in the loop may garbage collect a `Records`, which then closes its shards.
            return [shard for number, shard in list(self._shards) if number == records]

    def close(self, records: int, which: Sequence[int] | None = None) -> None:
        """Closes shards of one `Records`; None = all of them."""
        with self._lock:
            for shard in self.of(records) if which is None else which:
                self._shards.pop((records, shard), None)

    def reset(self) -> None:
        """Starts empty with a new lock, in a child process: a thread of the parent may hold the old lock."""
        self.__init__(self.limit)


OPEN = OpenShards(256)
_NUMBERS = itertools.count()
os.register_at_fork(after_in_child=OPEN.reset)


def open_shard(path: pathlib.Path) -> Any:
    """Reader of an ArrayRecord file; `CorruptRecord` if it is not one."""
    try:
        return array_record_module.ArrayRecordReader(str(path), READ_OPTIONS)
    except (RuntimeError, ValueError) as error:
        raise CorruptRecord(f"{path}: not a readable ArrayRecord file") from error


def read_record(shard: Shard, record: int) -> bytes:
    """Record number `record`; `CorruptRecord` with the path of the shard if it is damaged."""
    try:
        return shard.reader.read([record])[0]
    except (RuntimeError, ValueError, IndexError) as error:
        raise CorruptRecord(f"{shard.path}: record {record} is damaged") from error


def shard_path(directory: pathlib.Path, stem: str, shard: int) -> pathlib.Path:
    """`<stem>-<5 digits>.arrayrecord` in `directory`."""
    return directory / shard_name(stem, shard)


def shard_name(stem: str, shard: int) -> str:
    """File name of a shard."""
    return f"{stem}-{shard:05d}.arrayrecord"


def file_digest(path: pathlib.Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


TABLES = (".csv", ".tsv", ".tab", ".txt", ".json", ".jsonl", ".ndjson")
"""Suffixes of the files whose content is part of the digest of a folder."""


def digest(annotations: pathlib.Path, without: Collection[str] = ()) -> str:
    """SHA-256 of annotations: of the content of a file; of names, sizes and tables of a folder.

    Args:
      annotations: file or folder.
      without: files to leave out, by their printable path in the folder.
    """
    if not annotations.is_dir():
        return file_digest(annotations)
    lines = []
    for file in sorted(p for p in annotations.rglob("*") if p.is_file()):
        if printable(name := file.relative_to(annotations).as_posix()) not in without:
            content = file_digest(file) if file.suffix.lower() in TABLES else ""
            lines.append(f"{name} {file.stat().st_size} {content}")
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
