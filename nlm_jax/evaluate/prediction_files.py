"""Prediction files in the official format: prediction, label, id and dataset_name, as JSON lines or CSV.

Beside them, where labels were scored instead of answers generated, lie the scores: JSON lines of id, dataset_name and
scores (label -> log-likelihood, of a detection minus that of "None").
"""

import csv
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from nlm_jax.core.errors import UserError
from nlm_jax.evaluate.beans_zero.score import Answer

FIELDS = ("prediction", "label", "id", "dataset_name")
NEEDED = ("prediction", "label", "dataset_name")
"""What the benchmark's own scorer asks for."""


def read(file: pathlib.Path, growing: bool = False) -> list[Answer]:
    """The answers of a file, in its order. A line without an id has its number for one; a null is an empty text.

    Args:
      growing: somebody may be writing it: a last line that is cut short is left out.

    Raises:
      UserError: no such file, none in it, or a line that lacks a field.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file; give JSON lines with {', '.join(FIELDS)}")
    found = []
    for number, row in _rows(file, growing):
        if not isinstance(row, dict) or any(name not in row for name in NEEDED):
            lacking = next(n for n in NEEDED if n not in row) if isinstance(row, dict) else "an object"
            raise UserError(f"{file}: line {number} has no {lacking!r}; each line needs {', '.join(FIELDS)}")
        texts = {name: "" if row.get(name) is None else str(row[name]) for name in FIELDS}
        if not texts["dataset_name"]:
            raise UserError(f"{file}: line {number} has an empty dataset_name; name the part of the benchmark")
        scores = row.get("scores")
        texts["id"] = texts["id"] or str(number)
        found.append(Answer(**texts, scores=scores if isinstance(scores, dict) else None))
    if not found and not growing:
        raise UserError(f"{file}: holds no prediction")
    return found


def _rows(file: pathlib.Path, growing: bool) -> Iterator[tuple[int, Any]]:
    """(line, row) of JSON lines or CSV."""
    try:
        if file.suffix == ".csv":
            with file.open(encoding="utf-8-sig", newline="") as lines:
                yield from enumerate(csv.DictReader(lines), 2)
            return
        with file.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        yield number, json.loads(line)
                    except json.JSONDecodeError as error:
                        if growing and not line.endswith("\n"):
                            return
                        raise UserError(f"{file}: line {number} is not JSON ({error.msg})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: is not UTF-8 text; give JSON lines with {', '.join(FIELDS)}") from error


def line(row: dict[str, Any]) -> str:
    """A row as a line of JSON."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def write(file: pathlib.Path, answers: Iterable[Answer]) -> None:
    """Writes `answers` in the official format."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as out:
        out.writelines(line({name: getattr(answer, name) for name in FIELDS}) for answer in answers)


def vocabulary(file: pathlib.Path | None) -> dict[str, list[str]]:
    """Part -> its fixed labels, from a JSON object of lists.

    Raises:
      UserError: no such file, or something else in it.
    """
    if file is None:
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not all(isinstance(v, list) and v and all(isinstance(x, str) for x in v) for v in content.values()):
            raise ValueError
    except (OSError, ValueError, AttributeError):
        raise UserError(f'{file}: must be JSON such as {{"watkins": ["Killer Whale", "Fin Whale"]}}') from None
    return content


def read_scores(file: pathlib.Path) -> dict[tuple[str, str], dict[str, float]]:
    """(part, id) -> label -> number, of a file that `--score labels` wrote; a last line cut short is left out."""
    found = {}
    with file.open(encoding="utf-8") as lines:
        for number, text in enumerate(lines, 1):
            if text.endswith("\n"):
                try:
                    row = json.loads(text)
                    found[str(row["dataset_name"]), str(row["id"])] = dict(row["scores"])
                except (ValueError, KeyError, TypeError):
                    raise UserError(f"{file}: line {number} holds no label scores; remove the file") from None
    return found
