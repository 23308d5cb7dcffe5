"""Label tracks that Audacity exports: start, end and label, separated by tabs, without a header.

Examples:
    0.5<tab>1.25<tab>Robin       dawn.wav#t=0.5,1.25: Robin      (the track is dawn.txt)
    \\<tab>200.0<tab>900.0        frequencies of the label above: skipped
"""

import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from nlm_jax.audio import formats
from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, Row
from nlm_jax.prepare.readers import cells, recording_facts, row_examples, row_streams, textfile
from nlm_jax.prepare.readers.lookup import Lookup
from nlm_jax.prepare.rejects import Notice, Reject

NUMBER = re.compile(r"\s*[-+]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:e[-+]?\d+)?\s*", re.IGNORECASE)
SPECTRAL = "\\"
"""First character of a line with the frequencies of the label above."""


class Label(NamedTuple):
    """A line of a track; times in seconds."""

    start: float
    end: float
    text: str


def opens(path: pathlib.Path) -> bool:
    """Whether a path is a text file whose first line is two times and a label, or a folder with some."""
    return any(map(_is_track, _text_files(path)))


def files(path: pathlib.Path) -> list[pathlib.Path]:
    """The label tracks at or below a path, sorted; among tracks, empty ones say that nothing is heard."""
    every = _text_files(path)
    tracks = list(filter(_is_track, every))
    return sorted([*tracks, *filter(_is_empty, every)]) if tracks else []


def _text_files(path: pathlib.Path) -> list[pathlib.Path]:
    every = sorted(formats.files_below(path)) if path.is_dir() else [path]
    return [file for file in every if file.suffix.lower() == ".txt" and file.is_file()]


def _is_track(file: pathlib.Path) -> bool:
    try:
        with textfile.open_text(file) as lines:
            first = next((line for line in lines if line.strip() and not line.startswith(SPECTRAL)), "")
    except (UserError, OSError):
        return False
    return parse_line(first) is not None


def _is_empty(file: pathlib.Path) -> bool:
    return file.stat().st_size < textfile.HEAD and not file.read_bytes().strip()


def parse_line(line: str) -> Label | None:
    """The label of a line, without a confidence after it; None if the line does not begin with two times."""
    start, end, *rest = [*line.strip("\r\n").split("\t"), ""]
    if not (NUMBER.fullmatch(start) and NUMBER.fullmatch(end)):
        return None
    rest = rest[:1] + [cell for cell in rest[1:] if cell.strip() and not NUMBER.fullmatch(cell)]
    return Label(float(start.replace(",", ".")), float(end.replace(",", ".")), " ".join(rest).strip())


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
    """One question for each label; the recording is next to the track, under the same name.

    Labels without text, and tracks without a recording, are rejects.
    """
    lookup = Lookup(root)
    for track in files(path) or [path]:
        yield from textfile.notices(track)
        try:
            recording = lookup.of_table(track)
        except UserError as error:
            yield Reject(str(track), f"{track}:1", str(error).removeprefix(f"{track}: "))
        else:
            yield from _of_track(track, recording)
    yield from lookup.notices()


def _of_track(track: pathlib.Path, recording: str) -> Iterator[Example | Reject]:
    rows = list(_lines(track))
    if not rows:
        yield row_examples.negative_example(Row({}, f"{track}:1"), recording)
    parsed = filter(None, (parse_line(row.values["line"]) for row in rows))
    vocabulary = frozenset(label for line in parsed for label in cells.single_labels(line.text))

    def convert(row: Row) -> Iterator[Example]:
        line = parse_line(row.values["line"])
        if line is None:
            raise UserError(f"{row.where}: expected start, end and label separated by tabs")
        labels = cells.labels(line.text, vocabulary)
        if not labels:
            raise UserError(f"{row.where}: missing field 'label': the row has no label")
        for label in labels:
            yield _example(Row({}, row.where), recording, label, line)

    yield from row_streams.convert_rows(rows, convert, lambda row: recording)


def _lines(track: pathlib.Path) -> Iterator[Row]:
    with textfile.open_text(track) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.startswith(SPECTRAL):
                yield Row({"line": line}, f"{track}:{number}")


def _example(row: Row, recording: str, label: str, line: Label) -> Example:
    if cells.is_silent(label):
        return row_examples.negative_example(row, recording, line.start, line.end)
    return row_examples.label_example(row, recording, label, line.start, line.end, facts=_names(label))


def _names(label: str) -> dict[str, str]:
    """Both names as facts of `Turdus merula, Common Blackbird`, as BirdNET writes labels; none of other labels."""
    scientific, _, common = label.partition(", ")
    full = recording_facts.without_author(scientific)
    if not common or full != scientific or "," in common:
        return {}
    return recording_facts.of_columns({"scientific_name": full, "common_name": common})
