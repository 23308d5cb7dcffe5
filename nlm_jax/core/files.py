"""JSON files that commands exchange, written atomically, and printable file names."""

import json
import os
import pathlib
from typing import Any

from nlm_jax.core.errors import UserError


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


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a JSON file atomically: a reader never sees part of it."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8", errors="backslashreplace")  # a lone surrogate becomes its JSON escape
    part.replace(path)
