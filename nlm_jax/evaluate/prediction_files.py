"""Prediction files in the official format: prediction, label, id and dataset_name, as JSON lines or CSV.

With `--score labels` there is a second file of label scores: JSON lines of id, dataset_name and scores (label ->
log-likelihood; of a detection, minus that of "None").
"""

import csv
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nlm_jax.core.errors import UserError

FIELDS = ("prediction", "label", "id", "dataset_name")
REQUIRED = ("prediction", "label", "dataset_name")
"""The fields that the benchmark's own scorer needs."""


@dataclasses.dataclass(frozen=True)
class PredictionRow:
    """One line of a predictions file."""

    prediction: str
    label: str
    id: str
    dataset_name: str
    """The part of the benchmark."""
    scores: Mapping[str, float] | None = None
    """Label -> log-likelihood, if labels were scored instead of a response generated."""

    @property
    def key(self) -> tuple[str, str]:
        """(part, id)."""
        return self.dataset_name, self.id


def read_predictions(file: pathlib.Path, incomplete: bool = False) -> list[PredictionRow]:
    """The rows of a predictions file, in order; a row without an id gets its line number, null is read as "".

    Args:
      file: JSON lines, or CSV if its name ends in .csv.
      incomplete: another process may be writing the file: a truncated last line is skipped, and no row is no error.

    Raises:
      UserError: the file is missing or empty, or a line lacks a field.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file; give JSON lines with {', '.join(FIELDS)}")
    predictions = []
    for number, row in _numbered_rows(file, incomplete):
        if not isinstance(row, dict):
            raise UserError(f"{file}: line {number} is not a JSON object; each line needs {', '.join(FIELDS)}")
        if missing := [name for name in REQUIRED if name not in row]:
            raise UserError(f"{file}: line {number} has no {missing[0]!r}; each line needs {', '.join(FIELDS)}")
        texts = {name: "" if row.get(name) is None else str(row[name]) for name in FIELDS}
        if not texts["dataset_name"]:
            raise UserError(f"{file}: line {number} has an empty dataset_name; name the part of the benchmark")
        texts["id"] = texts["id"] or str(number)
        scores = row.get("scores")
        predictions.append(PredictionRow(**texts, scores=scores if isinstance(scores, dict) else None))
    if not predictions and not incomplete:
        raise UserError(f"{file}: contains no prediction")
    return predictions


def _numbered_rows(file: pathlib.Path, incomplete: bool) -> Iterator[tuple[int, Any]]:
    """(line number, row) of JSON lines or CSV."""
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
                        if incomplete and not line.endswith("\n"):
                            return
                        raise UserError(f"{file}: line {number} is not JSON ({error.msg})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: is not UTF-8 text; give JSON lines with {', '.join(FIELDS)}") from error


def write_predictions(file: pathlib.Path, predictions: Iterable[PredictionRow]) -> None:
    """Writes a predictions file in the official format."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as out:
        out.writelines(json_line({name: getattr(row, name) for name in FIELDS}) for row in predictions)


def json_line(row: dict[str, Any]) -> str:
    """A row as a line of JSON."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def read_label_scores(file: pathlib.Path) -> dict[tuple[str, str], dict[str, float]]:
    """Label scores that `--score labels` wrote; a truncated last line is skipped.

    Returns:
      (part, id) -> label -> score.

    Raises:
      UserError: a line does not contain label scores.
    """
    scores = {}
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.endswith("\n"):
                try:
                    row = json.loads(line)
                    scores[str(row["dataset_name"]), str(row["id"])] = dict(row["scores"])
                except (ValueError, KeyError, TypeError):
                    raise UserError(f"{file}: line {number} contains no label scores; remove the file") from None
    return scores


def read_vocabulary(file: pathlib.Path | None) -> dict[str, list[str]]:
    """Part -> its labels, from a JSON object of lists; empty without a file.

    Raises:
      UserError: the file is missing or has another form.
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
