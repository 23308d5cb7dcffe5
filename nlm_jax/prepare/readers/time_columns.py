"""Columns with the times of labels, by their names: which words begin or end a label, and in which unit.

Examples:
    column             role        unit
    Begin Time (s)     start       1 s
    onset (ms)         start       0.001 s
    call_start_s       start       1 s      (an event before the word)
    time_end           end         1 s
    start_sample       none: looks like a time, but does not count seconds
    start_date         none
"""

import functools
import re
from collections.abc import Mapping, Sequence

from nlm_jax.prepare.readers import cells

START = (
    *("start", "begin", "onset", "tmin", "min_t", "t_start", "xmin", "from", "start_offset", "t0", "anfang"),
    *("beginn", "debut", "inicio", "inizio"),
)
END = (
    *("end", "stop", "finish", "tmax", "max_t", "t_end", "t_stop", "xmax", "to", "until", "end_offset", "t1", "ende"),
    *("fin", "fim", "fine", "eind", "einde", "slut"),
)
DURATION = ("duration", "dur", "delta", "length", "dauer", "duree", "duracion")
OFFSET = ("offset",)
"""The end next to an onset, the start next to a duration."""
TIME = ("time", "temps", "tempo", "tiempo", "zeit")
"""Words next to those above: `time_start`, `start_time`."""
NO_EVENT = ("",)
EVENTS = (
    *("segment", "seg", "event", "call", "detection", "det", "selection", "sel", "annotation", "label", "clip"),
    *("chunk", "window", "note", "syllable", "song", "box", "region", "interval", "bout", "vocalization"),
    "vocalisation",
)
"""Prefixes of time columns: `call_start_s`."""
UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3}
UNITS |= {"milliseconds": 1e-3, "min": 60.0, "mins": 60.0, "minutes": 60.0, "inseconds": 1.0, "ins": 1.0}
UNITS |= {"hhmmss": 1.0, "hms": 1.0, "mmss": 1.0}
"""End of the name of a time column, without blanks and signs -> seconds."""
TIME_WORDS = {
    *("start", "starts", "begin", "beginning", "onset", "end", "ends", "ending", "stop", "offset", "finish"),
    *("tmin", "tmax", "xmin", "xmax", "t0", "t1"),
}
OTHER_WORDS = {
    *("date", "datetime", "day", "year", "month", "hour", "clock", "utc", "local", "real", "file", "path", "version"),
    *("lat", "lon", "latitude", "longitude", "altitude", "depth", "km", "m", "station", "site", "temp", "temperature"),
    *("freq", "frequency", "hz", "khz", "row", "line", "page"),
}
"""Words in names of columns that begin or end something other than a label: `start_date`."""
COUNT_WORDS = {"sample", "samples", "frame", "frames", "index"}
"""Words in names of columns that count something other than seconds: `start_sample`."""
JOINED = re.compile(
    r"(start|begin|beginning|onset|end|ending|stop|offset|finish)"
    r"(time|samples?|frames?|index|point|s|secs?|seconds?|ms|msecs?|milliseconds|mins?|minutes)"
)
"""Two words of a name written as one: `startSample`."""


def find(columns: Mapping[str, str], words: Sequence[str]) -> str:
    """The column that is called by one of some words, alone or with `time` and a unit, or else with an event before it.

    Args:
      columns: key (`cells.column_key`) -> name of each column.
      words: `START`, `END`, `DURATION` or `OFFSET`; an earlier word has priority.

    Returns:
      The column's name; "" if there is none.
    """
    for events in (NO_EVENT, EVENTS):
        for word in words:
            for key, name in columns.items():
                if _unit(key, word, events):
                    return name
    return ""


@functools.lru_cache(1024)
def unit(name: str) -> float:
    """The unit of a column of times in seconds: 0.001 for `onset (ms)`, 1 if the name has none."""
    key = cells.column_key(name)
    words = (*START, *END, *DURATION, *OFFSET)
    units = (_unit(key, word, events) for events in (NO_EVENT, EVENTS) for word in words)
    return next((seconds for seconds in units if seconds), 1.0)


def _unit(key: str, word: str, events: Sequence[str]) -> float:
    """The unit in seconds of a column if it is called by `word` after one of the events; else 0."""
    flat, word = key.replace("_", ""), word.replace("_", "")
    forms = (word, f"{word}time", *(f"{time}{word}" for time in TIME))
    for event in events:
        rest = flat.removeprefix(event)
        for form in forms if flat.startswith(event) else ():
            if rest.startswith(form) and rest[len(form) :] in UNITS:
                return UNITS[rest[len(form) :]]
    return 0.0


def is_time(name: str) -> bool:
    """Whether a column may hold the time of a label."""
    key = cells.column_key(name)
    return (
        key.startswith(("file_offset", "offset"))
        or looks_like_time(name)
        or any(find({key: name}, words) for words in (START, END, DURATION))
    )


def looks_like_time(name: str) -> bool:
    """Whether the name of a column has a word of times, and none of something else (`OTHER_WORDS`)."""
    words = _words(name)
    if words & OTHER_WORDS:
        return False
    return bool(words & TIME_WORDS) or ("time" in words and bool(words & UNITS.keys()))


def counts_units(name: str) -> bool:
    """Whether a column counts samples, frames or the like instead of seconds."""
    return bool(_words(name) & COUNT_WORDS)


def _words(name: str) -> set[str]:
    """The words in the name of a column; two words written as one are separated."""
    matches = {word: JOINED.fullmatch(word) for word in cells.column_key(name).split("_")}
    return {part for word, match in matches.items() for part in (match.groups() if match else (word,))}
