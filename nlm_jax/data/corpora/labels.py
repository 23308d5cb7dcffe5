"""What readers of plain labels share: the question a label answers, names of parts of recordings, tables of text."""

import csv
import pathlib
from collections.abc import Iterator

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, Row, part_name

AUDIO = (".wav", ".flac", ".ogg", ".mp3")
PROMPT, TASK = "What is the common name for the focal species in the audio?", "common-name"


def example(row: Row, path: str, label: str, start: float | None = None, end: float | None = None) -> Example:
    """The question about a recording, or the part of it between `start` and `end` seconds, that `label` answers.

    Columns `prompt`, `text`, `task`, `domain`, `licence`, `split` and `id` of the row change what is asked.
    """
    name = path if start is None else part_name(path, start, end)
    return Example(
        id=row.text("id", default=name),
        paths=(name,),
        prompt=row.text("prompt", default="") or PROMPT,
        text=row.text("text", default="") or label,
        task=row.text("task", default="") or TASK,
        domain=row.text("domain", default="") or "unknown",
        licence=row.text("licence", "license", default="") or "unknown",
        label=label,
        split=row.text("split", default=""),
        where=row.where,
    )


def seconds(row: Row, *names: str) -> float | None:
    """A time of a table; None where the row has none.

    Raises:
      UserError: something that is no number.
    """
    text = row.text(*names, default="").strip()
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{row.where}: {names[0]} must be seconds, is {text!r}") from None


def table(file: pathlib.Path, delimiter: str = ",") -> Iterator[Row]:
    """The rows of a table with a header line; names of columns lose blanks and capitals.

    Raises:
      UserError: no header, not text, or a row with more cells than the header.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            rows = csv.DictReader(opened, delimiter=delimiter)
            if not rows.fieldnames:
                raise UserError(f"{file}: has no header line")
            for values in rows:
                where = f"{file}:{rows.line_num}"
                if None in values:
                    raise UserError(f"{where}: more cells than the header has columns; quote values that hold a comma")
                yield Row({k.strip().lower(): v.strip() for k, v in values.items() if v is not None}, where)
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not a text file in UTF-8") from error


def recording(folder: pathlib.Path, stem: str, where: str) -> str:
    """Name of the recording called `stem` in `folder`.

    Raises:
      UserError: there is none.
    """
    found = sorted(p.name for p in folder.glob(f"{stem}.*") if p.suffix.lower() in AUDIO)
    if not found:
        raise UserError(f"{where}: no recording {stem} with {', '.join(AUDIO)} beside it")
    return found[0]
