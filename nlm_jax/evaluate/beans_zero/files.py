"""Prediction files in the official format: one JSON object a line with prediction, label, id and dataset_name."""

import json
import pathlib
from collections.abc import Iterable

from nlm_jax.core.errors import UserError
from nlm_jax.evaluate.beans_zero.score import Answer

FIELDS = ("prediction", "label", "id", "dataset_name")


def read(file: pathlib.Path) -> list[Answer]:
    """The answers of a file, in its order.

    Raises:
      UserError: no such file, none in it, or a line that lacks a field.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file; give JSON lines with {', '.join(FIELDS)}")
    found = []
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                found.append(Answer(**{name: str(row[name]) for name in FIELDS}))
            except json.JSONDecodeError as error:
                raise UserError(f"{file}: line {number} is not JSON ({error.msg})") from error
            except (KeyError, TypeError) as error:
                lacking = error.args[0] if isinstance(error, KeyError) else "an object"
                raise UserError(
                    f"{file}: line {number} has no {lacking!r}; each line needs {', '.join(FIELDS)}"
                ) from None
    if not found:
        raise UserError(f"{file}: holds no prediction")
    return found


def write(file: pathlib.Path, answers: Iterable[Answer]) -> None:
    """Writes `answers` in the official format."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as out:
        for answer in answers:
            row = {name: getattr(answer, name) for name in FIELDS}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def vocabulary(file: pathlib.Path | None) -> dict[str, list[str]]:
    """Part -> its fixed labels, from a JSON object of lists.

    Raises:
      UserError: no such file, or something else in it.
    """
    if file is None:
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not all(isinstance(v, list) and all(isinstance(x, str) for x in v) for v in content.values()):
            raise ValueError
    except (OSError, ValueError, AttributeError):
        raise UserError(f'{file}: must be JSON such as {{"watkins": ["Killer Whale", "Fin Whale"]}}') from None
    return content
