"""Random access to the bytes of a recording, and file objects that present pieces of them to libsndfile."""

import collections
import contextlib
import dataclasses
import io
import os
import pathlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from nlm_jax.core.errors import UserError

SEARCHED = 1 << 22
"""Bytes that `find` searches at a time."""
CACHED_SEARCHES = 1 << 14
"""Results of searches through files that are cached."""
T = TypeVar("T")
_searches: collections.OrderedDict[tuple, Any] = collections.OrderedDict()


class Data:
    """A file, or its bytes, of which any part can be read. Several threads may read."""

    def __init__(self, source: pathlib.Path | bytes):
        """Raises OSError if the file cannot be opened."""
        self.path = None if isinstance(source, bytes) else source
        self._bytes = source if isinstance(source, bytes) else None
        self._file = None if isinstance(source, bytes) else open(source, "rb", buffering=0)  # noqa: SIM115
        self._lock = threading.Lock()
        about = None if isinstance(source, bytes) else os.fstat(self._file.fileno())
        self.size = len(source) if about is None else about.st_size
        self.key = None if about is None else (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)
        """Identifies the content of a file as long as it is not changed; None for bytes."""

    def close(self) -> None:
        """Closes the file, if it is one."""
        if self._file is not None:
            self._file.close()

    def read(self, begin: int, count: int) -> bytes:
        """Up to `count` bytes from `begin`; fewer at the end, none if `begin` is past it."""
        if begin >= self.size:
            return b""
        if self._bytes is not None:
            return self._bytes[begin : begin + count]
        with self._lock:
            self._file.seek(begin)
            out = self._file.read(count) or b""
            while len(out) < count and (more := self._file.read(count - len(out))):
                out += more
            return out

    def find(self, pattern: bytes, begin: int = 0) -> int:
        """Offset of the first `wanted` at or after `begin`; -1 if there is none."""
        if self._bytes is not None:
            return self._bytes.find(pattern, begin)
        while begin < self.size:
            at = self.read(begin, SEARCHED + len(pattern) - 1).find(pattern)
            if at >= 0:
                return begin + at
            begin += SEARCHED
        return -1


def remembered(data: Data, what: str, begin: int, search: Callable[[], T]) -> T:
    """Result of `search` through a file from `begin` on, cached as long as the file is not changed.

    Args:
      data: the file; bytes are not cached.
      what: name of the search.
      begin: its start.
      search: computes the result.
    """
    if data.key is None:
        return search()
    key = (what, begin, *data.key)
    if key not in _searches:
        _searches[key] = search()
        while len(_searches) > CACHED_SEARCHES:
            _searches.popitem(last=False)
    return _searches[key]


@dataclasses.dataclass(frozen=True)
class Piece:
    """One stream of a recording, as presented to libsndfile. Most recordings are a single piece, all of their bytes."""

    parts: tuple[bytes | tuple[int, int], ...] = ()
    """Its content: new bytes, and (begin, end) ranges of the source; empty = the source unchanged."""
    frames: int | None = None
    """Samples per channel, if they were counted; None = as libsndfile reports."""
    trusted: bool = True
    """Whether the length in its header is correct."""
    entered: bool = True
    """Whether seeking works: not if its frames are not numbered from 0."""
    verified: Callable[[], "Piece | None"] | None = None
    """Counts the samples if the header may be wrong; returns the corrected piece, or None if the header is right."""
    bounded: bool = True
    """False if it may contain the next stream as well, which disturbs seeking, but not sequential reading."""
    mpeg: bool = False
    """Whether libmpg123 decodes it."""
    spare: int = 0
    """Bytes to report beyond the end: an MP3 without a table of contents is read as far as its size suggests."""


class Spliced(io.RawIOBase):
    """A read-only file of the parts of a piece, concatenated."""

    def __init__(self, data: Data, piece: Piece):
        self._data, self._at, self._parts, end = data, 0, [], 0
        for part in piece.parts or ((0, data.size),):
            size = len(part) if isinstance(part, bytes) else part[1] - part[0]
            self._parts.append((end, end + size, part))
            end += size
        self._end, self._claimed = end, end + piece.spare

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Offset of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As for any file; the end is that of the claimed bytes."""
        self._at = max(0, {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._claimed}[whence] + offset)
        return self._at

    def readinto(self, buffer) -> int:
        """Bytes from the next parts; none at the real end, zeros where the last of the claimed bytes are looked for."""
        done, view = 0, memoryview(buffer).cast("B")
        for begin, end, part in self._parts:
            while begin <= self._at < end and done < len(view):
                count, offset = min(len(view) - done, end - self._at), self._at - begin
                if isinstance(part, bytes):
                    new = part[offset : offset + count]
                else:
                    new = self._data.read(part[0] + offset, count)
                if not new:
                    return done
                view[done : done + len(new)] = new
                done, self._at = done + len(new), self._at + len(new)
        if not done and self._claimed > self._end and self._at >= self._claimed - 128:  # where an MP3 may have a tag
            done = min(len(view), self._claimed - self._at)
            view[:done] = bytes(done)
            self._at += done
        return done


def opened(source: str | pathlib.Path | bytes, label: str) -> Data:
    """The bytes of a file. Raises UserError, which begins with `label`, if it cannot be opened or is empty."""
    if isinstance(source, bytes):
        return Data(source)
    path = pathlib.Path(source)
    try:
        is_file, exists = path.is_file(), path.exists()
    except (OSError, ValueError) as error:  # a name too long, a null character, a folder that may not be entered
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{label[:200]}: no such file ({why})") from error
    if not is_file:
        raise UserError(f"{label}: not a file" if exists else f"{label}: no such file")
    try:
        data = Data(path)
    except OSError as error:
        raise UserError(f"{label}: cannot be opened ({error.strerror})") from error
    if not data.size:
        data.close()
        raise UserError(f"{label}: the file is empty")
    return data


def stamp(path: str | pathlib.Path) -> tuple[int, int] | None:
    """Size and modification time, for caches of facts about a file; None if they cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        status = os.stat(path)
        return status.st_size, status.st_mtime_ns
    return None
