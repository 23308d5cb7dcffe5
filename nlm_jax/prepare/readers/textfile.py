"""Text files in the encodings that programs write: UTF-8 and UTF-16 with or without a mark, else Windows-1252."""

import codecs
import functools
import pathlib
from typing import TextIO

from nlm_jax.core.errors import UserError
from nlm_jax.prepare.rejects import Notice

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before that of UTF-16, which is its beginning
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WINDOWS = "cp1252"
HEAD = 4096
"""Bytes read to recognise UTF-16 without a mark, and files that are not text."""
CONTROL = frozenset(range(32)) - frozenset(b"\t\n\r\f\x1a") | {127}
"""Bytes that text does not contain; 1A ends a DOS file."""
CHUNK = 1 << 20
"""Bytes decoded at a time."""


def open_text(file: pathlib.Path) -> TextIO:
    """Opens a file for reading as text, with its own line ends.

    Raises:
      UserError: it is not text.
    """
    return file.open(encoding=encoding(file), newline="", errors="replace")


def encoding(file: pathlib.Path) -> str:
    """The encoding of a text file, as Python names it.

    Raises:
      UserError: it is not text.
    """
    stat = file.stat()
    return _encoding(file, stat.st_mtime_ns, stat.st_size)


def notices(file: pathlib.Path) -> list[Notice]:
    """A notice if the encoding of a file was guessed."""
    if encoding(file) != WINDOWS:
        return []
    return [Notice(f"{file}: not in UTF-8, read as Windows-1252; if names look wrong, save it as UTF-8")]


@functools.lru_cache(1024)
def _encoding(file: pathlib.Path, modified: int, size: int) -> str:
    with file.open("rb") as opened:
        head = opened.read(HEAD)
        for mark, name in BYTE_ORDER_MARKS:
            if head.startswith(mark):
                return name
        if name := _unmarked_utf16(head):
            return name
        control = sum(byte in CONTROL for byte in head.rstrip(b"\0"))  # zeros at the end: the disk was full
        if control > max(1, len(head) // 100):
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


def _unmarked_utf16(head: bytes) -> str:
    """Which UTF-16 a file without a mark is in, "" if neither: the high byte of delimiters, line ends and Latin letters
    is 0, no low byte is."""
    pairs = len(head) // 2
    low, high = head[: 2 * pairs : 2].count(0), head[1 : 2 * pairs : 2].count(0)
    if high > 0.1 * pairs and not low:
        return "utf-16-le"
    return "utf-16-be" if low > 0.1 * pairs and not high else ""
