"""An example as annotations describe it, names of recordings and their parts, and strict reading of JSON lines."""

import dataclasses
import json
import math
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from nlm_jax.core.errors import UserError

NONE = "None"
"""Label and answer of a detection if nothing is heard: BEANS-Zero's own word."""


@dataclasses.dataclass(frozen=True)
class Example:
    """A question about one or more recordings, with its answer."""

    id: str
    paths: tuple[str, ...]
    """Audio files as written in the annotation, or parts of them (`part_name`); relative to the audio root. Empty for
    text alone."""
    prompt: str
    """User text; placeholders for the clips are put in front if it has none."""
    text: str
    """The answer."""
    task: str
    domain: str = "unknown"
    licence: str = "unknown"
    label: str = ""
    labels: tuple[str, ...] = ()
    """The labels that the answer lists, if there are several."""
    split: str = ""
    where: str = ""
    """file:line of its annotation, for messages."""
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Facts about the recording, by the names in `FACTS`; instruction tasks are generated from them."""


RANKS = ("phylum", "class", "order", "family", "genus", "species")
FACTS = (
    *("common_name", "scientific_name", *RANKS, "subspecies"),
    *("others", "call_type", "life_stage", "sex", "count", "individuals", "caption"),
    *("sound", "instrument", "pitch", "velocity", "quality", "speaker", "speakers", "gender", "word", "transcript"),
    *("place", "country", "time", "date", "notes", "recordist", "url"),
)
"""Names of facts. `species` is the binomial; `others`, `call_type` and `sound` may be comma-separated lists."""


def lineage(facts: Mapping[str, str]) -> str:
    """`Chordata;Aves;Passeriformes;Corvidae;Corvus;Corvus corax`, unknown ranks empty; "" if all are unknown."""
    ranks = [facts.get(rank, "") for rank in RANKS]
    binomial = ranks[-1] or facts.get("scientific_name", "")
    ranks[-1] = binomial
    if binomial and not ranks[-2]:
        ranks[-2] = binomial.split()[0]
    return ";".join(ranks) if any(ranks) else ""


NUMBER = r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)"
PART = re.compile(rf"(.+)#t={NUMBER},{NUMBER}", re.DOTALL)


def part_name(path: str, start: float, end: float) -> str:
    """Name of the part of a recording from `start` to `end` seconds, written as a media fragment: `a.wav#t=1.5,3`."""
    start, end = (f"{round(seconds, 6) + 0.0:.6f}".rstrip("0").rstrip(".") for seconds in (start, end))
    return f"{path}#t={start},{end}"


def part_of(name: str) -> tuple[str, float, float] | None:
    """(path, start, end) from the name of a part; None for a whole recording. A point in time has end = start.

    Raises:
      UserError: the part ends before it starts, or starts before its recording.
    """
    match = PART.fullmatch(name)
    if match is None:
        return None
    start, end = float(match[2]), float(match[3])
    if fault := span_fault(start, end):
        raise UserError(f"{name}: {fault}; a part must start at 0 s or later and end after it starts")
    return match[1], start, end


def whole(name: str) -> str:
    """The recording that a name denotes, or of which it denotes a part."""
    match = PART.fullmatch(name)
    return match[1] if match else name


CONTAINED = re.compile("#(row|member)=")
"""In names of recordings within a dataset; several rows may hold copies of one recording (BirdSet's soundscapes)."""
CHANNEL = re.compile(r"(.+)#channel=([1-9]\d*)", re.DOTALL)


def file_of(name: str) -> str:
    """The recording with all of its channels, from the name of the recording, a channel, or a part."""
    match = CHANNEL.fullmatch(whole(name))
    return match[1] if match else whole(name)


def span_fault(start: float, end: float) -> str:
    """The error of a start and an end in seconds; "" for a span or a point in time."""
    if not (math.isfinite(start) and math.isfinite(end)):
        return f"start {start:g} and end {end:g} must both be numbers"
    if start < 0:
        return f"starts at {start:g} s, before its recording"
    return f"ends at {end:g} s, before it starts at {start:g} s" if end < start else ""


OVERRUN = 60.0
"""Seconds that a label may extend past the end of its recording, as the last window of many programs does."""


def past_end_fault(start: float, end: float, length: float) -> str:
    """Why a label from `start` to `end` cannot belong to a recording of `length` seconds; "" if it can."""
    if start < length and end <= length + OVERRUN:
        return ""
    fault = f"starts at {start:.10g} s" if start >= length else f"ends at {end:.10g} s"
    late = start if start >= length else end
    if late >= 1e8:
        hint = "are the times counted from 1970?"
    elif late / 1000 <= length + OVERRUN and late >= 100:
        hint = "are the times in milliseconds?"
    else:
        hint = "is it a label of another recording?"
    return f"the label {fault}, but the recording has {length:.2f} s; {hint}"


@dataclasses.dataclass(frozen=True)
class Row:
    """One JSON object of an annotation file; its typed accessors name file, line and field in errors."""

    values: Mapping[str, Any]
    where: str

    def text(self, *names: str, default: str | None = None, empty: bool = True) -> str:
        """The first field of `names` that is present, as a string; numbers are converted.

        Args:
          names: of the fields.
          default: if no field is present.
          empty: whether the value may be empty.

        Raises:
          UserError: no field is present and there is no default, or the value is not a string or empty.
        """
        for name in names:
            value = self.values.get(name)
            if value is None:
                continue
            if isinstance(value, int | float) and not isinstance(value, bool):
                value = str(value)
            if not isinstance(value, str):
                raise UserError(f"{self.where}: field {name!r} must be text, is {_shown(value)}")
            if value.strip() or empty:
                return value
            raise UserError(f"{self.where}: field {name!r} is empty")
        if default is None:
            present = ", ".join(self.values) or "none"
            raise UserError(
                f"{self.where}: missing field {' or '.join(map(repr, names))}; the fields present are {present}"
            )
        return default

    def paths(self) -> tuple[str, ...]:
        """Audio files, from `files` (a list) or `path`."""
        if self.values.get("files") is None:
            return (self.text("path", "files", empty=False),)
        files = self.values["files"]
        if not isinstance(files, list) or not all(isinstance(f, str) and f for f in files):
            raise UserError(f"{self.where}: field 'files' must be a list of paths, is {_shown(files)}")
        return tuple(files)


def read_rows(path: pathlib.Path) -> Iterator[Row]:
    """The objects of a JSON-lines file, of a JSON list, or of `{"annotation": [...]}`.

    Raises:
      UserError: there is no such file, or a line is not a JSON object.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such annotation file")
    try:
        whole = _whole(path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file in UTF-8; expected JSON lines") from error
    if whole is not None:
        yield from whole
        return
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    value = _loads(line)
                except json.JSONDecodeError as error:
                    raise UserError(f"{path}:{number}: not valid JSON ({error.msg} at column {error.colno})") from error
                yield _row(value, f"{path}:{number}")


def _loads(text: str) -> Any:
    """`json.loads` that raises JSONDecodeError for a value nested too deeply for Python, too."""
    try:
        return json.loads(text)
    except RecursionError:
        raise json.JSONDecodeError("nested too deeply", text, 0) from None


def _whole(path: pathlib.Path) -> list[Row] | None:
    """The rows of a file that is one JSON value (a list, or an object with "annotation"); None for JSON lines."""
    with path.open(encoding="utf-8-sig") as lines:
        first = next((line for line in lines if line.strip()), "")
    try:
        content = _loads(first)
    except json.JSONDecodeError as broken:
        if first.strip() not in ("[", "{") and not re.match(r'\s*(\[|\{\s*"annotation"\s*:\s*\[)', first):
            return None  # a damaged first line: the line reader names it
        try:
            content = _loads(path.read_text(encoding="utf-8-sig"))
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{error.lineno}: not valid JSON ({error.msg} at column {error.colno})") from broken
        if isinstance(content, dict) and "annotation" not in content:
            content = [content]
    items = content.get("annotation") if isinstance(content, dict) else content
    if isinstance(content, dict) and not isinstance(items, list):
        if items is None or "text" in content:
            return None
        raise UserError(f"{path}: 'annotation' must hold a list, holds {_shown(items)}")
    return [_row(item, f"{path}: entry {i}") for i, item in enumerate(items)] if isinstance(items, list) else None


def _row(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a JSON object, found {_shown(value)}")
    return Row(value, where)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
