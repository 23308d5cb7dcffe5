"""Label tracks that Audacity exports: start, end and label, separated by tabs, without a header."""

import pathlib
from collections.abc import Iterator

from nlm_jax.core.errors import UserError
from nlm_jax.data.corpora import labels
from nlm_jax.data.report import Reject
from nlm_jax.data.schema import Example, Row


def opens(path: pathlib.Path) -> bool:
    """A text file whose first line is two times and a label, or a folder with some."""
    return bool(_tracks(path))


def _tracks(path: pathlib.Path) -> list[pathlib.Path]:
    return [file for file in (sorted(path.rglob("*.txt")) if path.is_dir() else [path]) if _fits(file)]


def _fits(file: pathlib.Path) -> bool:
    if not file.is_file() or file.suffix.lower() != ".txt":
        return False
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        return times(lines.readline()) is not None


def times(line: str) -> tuple[float, float, str] | None:
    """Start, end and label of a line, None where it is none."""
    start, _, rest = line.strip("\r\n").partition("\t")
    end, _, label = rest.partition("\t")
    try:
        return float(start), float(end), label.strip()
    except ValueError:
        return None


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example]:
    """One question for each label; the recording is beside the track, under the same name.

    Raises:
      UserError: no recording, or a line that is no label. Lines with frequencies (they begin with a backslash) and
        labels without text are passed over.
    """
    for track in _tracks(path) or [path]:
        yield from _labels(track, root)


def _labels(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject]:
    def label(row: Row) -> Iterator[Example]:
        found = times(row.values["line"])
        if found is None:
            raise UserError(f"{row.where}: expected start, end and label separated by tabs")
        start, end, text = found
        if text:
            file = labels.recording(path.parent, path.stem, str(path), root)
            yield labels.example(Row({}, row.where), file, text, start, end)

    with path.open(encoding="utf-8-sig") as lines:
        rows = (Row({"line": line}, f"{path}:{number}") for number, line in enumerate(lines, 1))
        yield from labels.each(
            (r for r in rows if r.values["line"].strip(" \t\r\n") and r.values["line"][0] != "\\"), label
        )
