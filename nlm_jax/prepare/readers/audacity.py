"""Label tracks that Audacity exports: start, end and label, separated by tabs, without a header."""

import functools
import pathlib
import re
from collections.abc import Iterator

from nlm_jax.audio import formats
from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, Row
from nlm_jax.prepare.readers import cells, common, recording_facts, textfile
from nlm_jax.prepare.readers.lookup import Lookup
from nlm_jax.prepare.rejects import Notice, Reject

NUMBER = re.compile(r"\s*[-+]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:e[-+]?\d+)?\s*", re.IGNORECASE)
SPECTRAL = "\\"
"""What a line with the frequencies of the label above begins with."""


def opens(path: pathlib.Path) -> bool:
    """A text file whose first line is two times and a label, or a folder with some."""
    return any(map(_is_track, _texts(path)))


def files(path: pathlib.Path) -> list[pathlib.Path]:
    """The label tracks that a path is, or has below it: with them empty ones, whose recording was listened to."""
    every = _texts(path)
    tracks = list(filter(_is_track, every))
    return sorted([*tracks, *filter(_is_empty, every)]) if tracks else []


def _texts(path: pathlib.Path) -> list[pathlib.Path]:
    every = sorted(formats.files_below(path)) if path.is_dir() else [path]
    return [file for file in every if file.suffix.lower() == ".txt" and file.is_file()]


def _is_track(file: pathlib.Path) -> bool:
    try:
        with textfile.open_text(file) as lines:
            first = next((line for line in lines if line.strip() and not line.startswith(SPECTRAL)), "")
    except (UserError, OSError):
        return False
    return times(first) is not None


def _is_empty(file: pathlib.Path) -> bool:
    return file.stat().st_size < textfile.HEAD and not file.read_bytes().strip()


def times(line: str) -> tuple[float, float, str] | None:
    """Start, end and label of a line, None where it is none; a confidence behind the label is no part of it."""
    start, end, *rest = [*line.strip("\r\n").split("\t"), ""]
    if not (NUMBER.fullmatch(start) and NUMBER.fullmatch(end)):
        return None
    rest = rest[:1] + [cell for cell in rest[1:] if cell.strip() and not NUMBER.fullmatch(cell)]
    return float(start.replace(",", ".")), float(end.replace(",", ".")), " ".join(rest).strip()


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
    """One question for each label; the recording is beside the track, under the same name.

    Lines with frequencies are passed over; labels without text, and tracks without a recording, are rejects.
    """
    lookup = Lookup(root)
    for track in files(path) or [path]:
        yield from textfile.notices(track)
        try:
            file = common.beside(track, lookup)
        except UserError as error:
            yield Reject(str(track), f"{track}:1", str(error).removeprefix(f"{track}: "))
            continue
        rows = list(_lines(track))
        single = frozenset(label for row in rows for label in cells.alone((times(row.values["line"]) or ("",))[-1]))
        made = functools.partial(_label, file=file, single=single)
        yield from common.each(rows, made, lambda row, file=file: file)
        if not rows:
            yield common.negative(Row({}, f"{track}:1"), file)
    yield from lookup.notices()


def _lines(track: pathlib.Path) -> Iterator[Row]:
    with textfile.open_text(track) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.startswith(SPECTRAL):
                yield Row({"line": line}, f"{track}:{number}")


def _label(row: Row, file: str, single: frozenset[str]) -> Iterator[Example]:
    found = times(row.values["line"])
    if found is None:
        raise UserError(f"{row.where}: expected start, end and label separated by tabs")
    start, end, text = found
    every = cells.labels(text, single)
    if not every:
        raise UserError(f"{row.where}: missing field 'label': the row has no label")
    for label in every:
        bare = Row({}, row.where)
        if cells.is_silent(label):
            yield common.negative(bare, file, start, end)
        else:
            yield common.example(bare, file, label, start, end, facts=_names(label))


def _names(label: str) -> dict[str, str]:
    """`Turdus merula, Common Blackbird`, as BirdNET writes labels: both names as facts."""
    latin, _, common_name = label.partition(", ")
    full = recording_facts.binomial(latin)
    if not common_name or full != latin or "," in common_name:
        return {}
    return recording_facts.facts({"scientific_name": full, "common_name": common_name})
