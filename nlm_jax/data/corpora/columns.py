"""The columns of label tables by what they mean, whatever program or person named them, and the times in them."""

import functools
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from nlm_jax.core.errors import UserError
from nlm_jax.data.corpora import metadata
from nlm_jax.data.schema import Row

FILE = (
    *("file", "file_name", "filename", "path", "file_path", "filepath", "relative_path", "fname", "audio"),
    *("audio_path", "audio_filepath", "audio_file", "audio_file_name", "audio_filename", "sound_file", "soundfile"),
    *("sound_path", "wav", "wav_file", "wav_path", "wavfile", "wav_filename", "recording", "recording_file"),
    *("recording_name", "recording_path", "media_file", "notated_path", "in_file", "begin_path", "begin_file"),
)
LABEL = (
    *("label", "labels", "common_name", "species", "species_common", "species_name", "class", "class_name"),
    *("class_label", "category", "annotation", "annotations", "event_label", "target_name", "taxon", "taxon_name"),
    *("manual_id", "tags", "tag", "sound_type", "call_type", "scientific_name", "species_scientific", "auto_id"),
    *("top1match", "species_code", "ebird_code", "primary_label", "text"),
)
"""Columns that may hold the label, the first that a table has; people name them as they like."""
_BEGIN = (
    "start begin onset tmin t_min min_t t_start tstart xmin from start_offset time_start t0"
    " anfang beginn debut d_but inicio inizio"
)
_FINISH = "end stop finish tmax t_max max_t t_end tend t_stop xmax to until end_offset time_end t1 ende fin fim fine"
_LAST = "duration dur delta delta_time length segment_duration event_duration"
UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3}
UNITS |= {"milliseconds": 1e-3, "min": 60.0, "mins": 60.0, "minutes": 60.0, "in_seconds": 1.0, "in_s": 1.0}
UNITS |= {"hh_mm_ss": 1.0, "hms": 1.0, "h_m_s": 1.0, "mm_ss": 1.0}
"""What follows the name of a time, and how many seconds it is."""
TIMELIKE = {
    *("start", "starts", "begin", "beginning", "onset", "end", "ends", "ending", "stop", "offset", "finish"),
    *("tmin", "tmax", "xmin", "xmax", "t0", "t1"),
}
OTHER = {
    *("date", "datetime", "day", "year", "month", "hour", "clock", "utc", "local", "real", "file", "path", "version"),
    *("lat", "lon", "latitude", "longitude", "altitude", "depth", "km", "m", "station", "site", "temp", "temperature"),
    *("freq", "frequency", "hz", "khz", "row", "line", "page"),
}
"""Words of columns that begin or end something else than a label."""
COUNTED = {"sample", "samples", "frame", "frames", "index"}
"""Words of columns that count something else than seconds."""
CLOCK = re.compile(r"(?:(\d+):)?(\d{1,3}):(\d{1,2}(?:[.,]\d+)?)")
DAY = re.compile(r"\d{4}-\d\d?-\d\d?|\d\d?[./]\d\d?[./]\d{2,4}|\d{8}_\d{6}")


class Span(NamedTuple):
    """Seconds within a recording; None for a row about all of it."""

    start: float | None
    end: float | None


class Layout(NamedTuple):
    """Which columns of a table say what; "" if none does."""

    file: str
    label: str
    start: str
    end: str
    duration: str
    unused: tuple[str, ...]
    """Columns that look like times and are none of these."""

    @property
    def timed(self) -> bool:
        return bool(self.start and (self.end or self.duration))


def layout(names: Collection[str]) -> Layout:
    """The layout of a table with these columns, in lower case as `tables` gives them."""
    return _layout(tuple(names))


@functools.lru_cache(1024)
def _layout(names: tuple[str, ...]) -> Layout:
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(metadata.plain(name), name)
    start, end, duration = (_timed(plain, words) for words in (_BEGIN, _FINISH, _LAST))
    offset = next((plain[name] for name in plain if name.partition("_")[0] == "offset" and _unit(name, "offset")), "")
    if start and not end:  # onset, offset
        end = offset
    elif not start and duration:  # offset, duration
        start = offset
    used = {start, end, duration}
    unused = [name for key, name in plain.items() if _timelike(key) and name not in used]
    if start and (end or duration):
        unused = [name for name in unused if not COUNTED & set(metadata.plain(name).split("_"))]
    return Layout(_first(plain, FILE), _first(plain, LABEL), start, end, duration, tuple(unused))


def _first(plain: Mapping[str, str], names: Collection[str]) -> str:
    return next((plain[name] for name in names if name in plain), "")


def _timed(plain: Mapping[str, str], words: str) -> str:
    """The column of one of the words, alone or with `time`, and with a unit."""
    for word in words.split():
        for key, name in plain.items():
            if _unit(key, word) or _unit(key, f"{word}_time") or _unit(key, f"{word}time"):
                return name
    return ""


def _unit(key: str, word: str) -> float:
    """The unit of a column of that word in seconds, 0 if it is another column."""
    if key == word:
        return 1.0
    return UNITS.get(key.removeprefix(f"{word}_"), 0.0) if key.startswith(f"{word}_") else 0.0


def _timelike(key: str) -> bool:
    words = set(key.split("_"))
    if words & OTHER:
        return False
    return bool(words & TIMELIKE) or ("time" in words and bool(words & UNITS.keys()))


def is_time(name: str) -> bool:
    """Whether a column may hold the time of a label."""
    key = metadata.plain(name)
    return (
        key.startswith(("file_offset", "offset"))
        or _timelike(key)
        or any(_timed({key: name}, words) for words in (_BEGIN, _FINISH, _LAST))
    )


def span(row: Row) -> Span:
    """The part of its recording that a row is about.

    Raises:
      UserError: one time without the other, something that is no time, or columns of times that are not understood.
    """
    found = layout(row.values)
    if not found.timed:
        given = [name for name in (found.start, found.end, *found.unused) if name and _number(row.values.get(name))]
        if given:
            counted = COUNTED & set(metadata.plain(given[0]).split("_"))
            why = "but counts no seconds" if counted else "but there is no start with an end or a duration"
            raise UserError(
                f"{row.where}: {given[0]!r} looks like a time, {why}; name columns in seconds start and end"
            )
        return Span(None, None)
    start, end, duration = (seconds(row, name) if name else None for name in found[2:5])
    if start is not None and end is None and duration is not None:
        end = start + duration
    if (start is None) != (end is None):
        missing = found.start if start is None else found.end or found.duration
        raise UserError(f"{row.where}: start and end belong together; {missing} is empty")
    return Span(start, end)


def _number(value: Any) -> bool:
    text = str(value).strip()
    return bool(re.fullmatch(r"[-+]?\d+([.,]\d+)?", text) or CLOCK.fullmatch(text))


def seconds(row: Row, name: str) -> float | None:
    """The time in a column, in seconds; None if the cell is empty.

    Raises:
      UserError: something else than a number or a clock time, such as 90, 1.5 or 0:01:30.
    """
    text = row.text(name, default="").strip()
    if not text:
        return None
    if clock := CLOCK.fullmatch(text):
        hours, minutes, rest = clock.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + float(rest.replace(",", "."))
    try:
        return float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text) * unit(name)
    except ValueError:
        why = (
            ", which does not say how far into the recording it is" if DAY.search(text) else "; write 90.5 or 0:01:30.5"
        )
        raise UserError(f"{row.where}: {name} must be seconds, is {text!r}{why}") from None


@functools.lru_cache(1024)
def unit(name: str) -> float:
    """The unit of a column of times in seconds: 0.001 for `onset (ms)`."""
    key = metadata.plain(name)
    words = " ".join((_BEGIN, _FINISH, _LAST, "offset")).split()
    found = (_unit(key, form) for word in words for form in (word, f"{word}_time", f"{word}time"))
    return next((unit for unit in found if unit), 1.0)
