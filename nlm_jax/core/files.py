"""Files written atomically, the JSON that commands exchange, and printable file names."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from nlm_jax.core.errors import UserError

PART = ".part"
"""End of the name of a file or folder that is being written."""


def printable(name: str | os.PathLike) -> str:
    """A file's name as text that every program reads: bytes that are not UTF-8 are written like `\\xe9`."""
    try:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # no file has such a name, but an annotation may
        return os.fspath(name).encode("utf-8", "backslashreplace").decode()


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
      UserError: the file is missing or is not a JSON object.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object")
    return value


@contextlib.contextmanager
def atomic(path: pathlib.Path, *, shared: bool = False) -> Iterator[pathlib.Path]:
    """Writes a file atomically: a reader never sees part of it.

    Example:
      with atomic(path) as part:
          part.write_bytes(content)

    Args:
      path: the file to create or replace.
      shared: whether other processes may write the same file at the same time.

    Yields:
      the path to write to. It is renamed to `path` if the block ends without an exception, else removed.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}{PART}" if shared else path.name + PART)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: pathlib.Path, text: str, *, shared: bool = False) -> None:
    """Writes a text file; see `atomic`. A lone surrogate is written like its JSON escape."""
    with atomic(path, shared=shared) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a JSON file atomically."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")
