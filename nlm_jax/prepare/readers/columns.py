"""The columns of label tables by what they mean, whatever program or person named them, and the times in them."""

import functools
import math
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Row
from nlm_jax.prepare.readers import recording_facts

FILE = (
    *("file", "file_name", "filename", "path", "file_path", "filepath", "relative_path", "fname", "audio"),
    *("audio_path", "audio_filepath", "audio_file", "audio_file_name", "audio_filename", "sound_file", "soundfile"),
    *("sound_path", "wav", "wav_file", "wav_path", "wavfile", "wav_filename", "recording", "recording_file"),
    *("recording_name", "recording_path", "media_file", "notated_path", "in_file", "begin_path", "begin_file"),
    *("datei", "dateiname", "fichier", "nom_fichier", "nom_du_fichier", "nom_de_fichier", "archivo", "nombre_archivo"),
    *("nombre_de_archivo", "arquivo", "nome_arquivo", "nome_file", "bestand", "bestandsnaam", "fil", "filnamn"),
)
LABEL = (
    *("label", "labels", "common_name", "species", "species_common", "species_name", "class", "class_name"),
    *("class_label", "category", "annotation", "annotations", "event_label", "target_name", "taxon", "taxon_name"),
    *("manual_id", "tags", "tag", "sound_type", "call_type", "scientific_name", "species_scientific", "auto_id"),
    *("top1match", "species_code", "ebird_code_multilabel", "ebird_code", "primary_label", "spp"),
    *("art", "artname", "espece", "nom_espece", "especie", "nombre_especie", "specie", "soort", "soortnaam", "text"),
)
"""Columns that may hold the label, the first that a table has; people name them as they like. Blanks and signs between
words do not matter: `commonName` and `Common Name` are one column."""
_BEGIN = "start begin onset tmin min_t t_start xmin from start_offset t0 anfang beginn debut inicio inizio"
_FINISH = "end stop finish tmax max_t t_end t_stop xmax to until end_offset t1 ende fin fim fine eind einde slut"
_LAST = "duration dur delta length dauer duree duracion"
TIME = ("time", "temps", "tempo", "tiempo", "zeit")
"""Words beside that of a time: `time_start`, `start_time`."""
EVENTS = (
    *(
        "segment",
        "seg",
        "event",
        "call",
        "detection",
        "det",
        "selection",
        "sel",
        "annotation",
        "label",
        "clip",
        "chunk",
    ),
    *("window", "note", "syllable", "song", "box", "region", "interval", "bout", "vocalization", "vocalisation"),
)
"""What a time may say that it is of: `call_start_s`."""
UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3}
UNITS |= {"milliseconds": 1e-3, "min": 60.0, "mins": 60.0, "minutes": 60.0, "inseconds": 1.0, "ins": 1.0}
UNITS |= {"hhmmss": 1.0, "hms": 1.0, "mmss": 1.0}
"""What follows the name of a time, without blanks and signs, and how many seconds it is."""
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
GLUED = re.compile(
    r"(start|begin|beginning|onset|end|ending|stop|offset|finish)"
    r"(time|samples?|frames?|index|point|s|secs?|seconds?|ms|msecs?|milliseconds|mins?|minutes)"
)
"""Two words of a column as one: `startSample`."""
WITH_UNIT = re.compile(r"([-+]?[\d.,]+)\s*(s|secs?|seconds?|ms|msec|milliseconds|mins?|minutes)")
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
        plain.setdefault(recording_facts.plain(name), name)
    start, end, duration = (_timed(plain, words) for words in (_BEGIN, _FINISH, _LAST))
    offset = _timed(plain, "offset")
    if not start and end and end == plain.get("t1") and "t2" in plain:
        start, end = end, plain["t2"]
    elif start and not end:  # onset, offset
        end = offset
    elif not start and duration:  # offset, duration
        start = offset
    used = {start, end, duration}
    unused = [name for key, name in plain.items() if _timelike(key) and name not in used]
    if start and (end or duration):
        unused = [name for name in unused if not COUNTED & _words(recording_facts.plain(name))]
    file, label = (next(iter(named(names, wanted)), "") for wanted in (FILE, LABEL))
    return Layout(file, label, start, end, duration, tuple(unused))


def named(names: Collection[str], wanted: Collection[str]) -> list[str]:
    """The columns of a table that have one of the wanted names, in the order of these."""
    flat: dict[str, str] = {}
    for name in names:
        flat.setdefault(_flat(recording_facts.plain(name)), name)
    return list(dict.fromkeys(flat[key] for key in map(_flat, wanted) if key in flat))


def _flat(key: str) -> str:
    return key.replace("_", "")


def _timed(plain: Mapping[str, str], words: str) -> str:
    """The column of one of the words, alone or with `time` and a unit; else one that says of what."""
    for events in ((), EVENTS):
        for word in words.split():
            for key, name in plain.items():
                if _unit(key, word, events):
                    return name
    return ""


def _unit(key: str, word: str, events: Collection[str] = ()) -> float:
    """The unit of a column of that word in seconds, 0 if it is another column."""
    flat, word = _flat(key), _flat(word)
    for event in events or ("",):
        own = flat.removeprefix(event)
        for form in (word, f"{word}time", *(f"{time}{word}" for time in TIME)) if event == flat[: len(event)] else ():
            if own.startswith(form) and own[len(form) :] in UNITS:
                return UNITS[own[len(form) :]]
    return 0.0


def _words(key: str) -> set[str]:
    """The words of a column, those that are written as one apart."""
    glued = {word: GLUED.fullmatch(word) for word in key.split("_")}
    return {part for word, match in glued.items() for part in (match.groups() if match else (word,))}


def _timelike(key: str) -> bool:
    words = _words(key)
    if words & OTHER:
        return False
    return bool(words & TIMELIKE) or ("time" in words and bool(words & UNITS.keys()))


def is_time(name: str) -> bool:
    """Whether a column may hold the time of a label."""
    key = recording_facts.plain(name)
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
    roles = layout(row.values)
    if not roles.timed:
        given = [name for name in (roles.start, roles.end, *roles.unused) if name and _number(row.values.get(name))]
        if given:
            counted = COUNTED & _words(recording_facts.plain(given[0]))
            why = "but counts no seconds" if counted else "but there is no start with an end or a duration"
            raise UserError(
                f"{row.where}: {given[0]!r} looks like a time, {why}; name columns in seconds start and end"
            )
        return Span(None, None)
    start, end, duration = (seconds(row, name) if name else None for name in roles[2:5])
    if start is not None and end is None and duration is not None:
        end = start + duration
    if (start is None) != (end is None):
        missing = roles.start if start is None else roles.end or roles.duration
        raise UserError(f"{row.where}: start and end belong together; {missing} is empty")
    if start is None:
        times = [name for name in row.values if name not in roles[2:5] and _timelike(recording_facts.plain(name))]
        if other := next((name for name in times if _number(row.values[name])), ""):
            raise UserError(f"{row.where}: {roles.start} is empty, and {other!r} is not used; write seconds")
    return Span(start, end)


def _number(value: Any) -> bool:
    text = str(value).strip()
    return bool(re.fullmatch(r"[-+]?\d+([.,]\d+)?", text) or CLOCK.fullmatch(text))


def seconds(row: Row, name: str) -> float | None:
    """The time in a column, in seconds; None if the cell is empty.

    Raises:
      UserError: something else than a number or a clock time, such as 90, 1.5 or 0:01:30.
    """
    value = row.values.get(name)
    if isinstance(value, float) and math.isnan(value):  # what pandas stores for a missing number
        return None
    text = row.text(name, default="").strip()
    if not text:
        return None
    if measured := WITH_UNIT.fullmatch(text.lower()):
        return float(measured[1].replace(",", ".")) * UNITS[measured[2]]
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
    key = recording_facts.plain(name)
    words = " ".join((_BEGIN, _FINISH, _LAST, "offset")).split()
    units = (_unit(key, word, events) for events in ((), EVENTS) for word in words)
    return next((unit for unit in units if unit), 1.0)
