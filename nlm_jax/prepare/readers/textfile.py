"""Text files in the encodings that programs write: UTF-8 and UTF-16 with or without a mark, else Windows-1252."""

import codecs
import functools
import pathlib
from typing import TextIO

from nlm_jax.core.errors import UserError
from nlm_jax.prepare.rejects import Notice

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before that of UTF-16, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WINDOWS = "cp1252"
HEAD = 4096
"""Bytes that are looked at to tell UTF-16 without a mark, and text from anything else."""
CONTROL = frozenset(range(32)) - frozenset(b"\t\n\r\f\x1a") | {127}
"""Bytes that text does not have; 1A is the end of a file of DOS."""
CHUNK = 1 << 20


def open_text(file: pathlib.Path) -> TextIO:
    """Opens a file for reading as text, line ends as they are there.

    Raises:
      UserError: it is no text.
    """
    return file.open(encoding=encoding(file), newline="", errors="replace")


def encoding(file: pathlib.Path) -> str:
    """The encoding of a text file, as Python names it.

    Raises:
      UserError: it is no text.
    """
    stat = file.stat()
    return _encoding(file, stat.st_mtime_ns, stat.st_size)


def notices(file: pathlib.Path) -> list[Notice]:
    """That the encoding of a file was guessed, if it was."""
    if encoding(file) != WINDOWS:
        return []
    return [Notice(f"{file}: not in UTF-8, read as Windows-1252; if names look wrong, save it as UTF-8")]


@functools.lru_cache(1024)
def _encoding(file: pathlib.Path, changed: int, size: int) -> str:
    with file.open("rb") as opened:
        head = opened.read(HEAD)
        for mark, name in MARKS:
            if head.startswith(mark):
                return name
        if name := _wide(head):
            return name
        if sum(byte in CONTROL for byte in head.rstrip(b"\0")) > max(1, len(head) // 100):  # of a disk that was full
            raise UserError(f"{file}: not a text file in UTF-8; expected a table or JSON lines")
        opened.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while chunk := opened.read(CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return WINDOWS
    return "utf-8"


def _wide(head: bytes) -> str:
    """UTF-16 without a mark: the high byte of delimiters, line ends and Latin letters is 0, no low byte is."""
    pairs = len(head) // 2
    low, high = head[: 2 * pairs : 2].count(0), head[1 : 2 * pairs : 2].count(0)
    if high > 0.1 * pairs and not low:
        return "utf-16-le"
    return "utf-16-be" if low > 0.1 * pairs and not high else ""
