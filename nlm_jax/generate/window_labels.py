"""Answers about windows as labels people open in their own programs: a table, Raven's selections, Audacity's tracks."""

import collections
import csv
import dataclasses
import math
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence

from nlm_jax.audio import wave
from nlm_jax.audio.formats import identity
from nlm_jax.core.errors import UserError
from nlm_jax.generate.answer_file import Rows

FORMATS = ("csv", "raven", "audacity")
NOTHING = ("", "none")
"""Answers that name nothing: they are in the table, but are no label."""
CLOSE = 0.01
"""Seconds between two windows that still count as neighbours."""
SUFFIXES = {"raven": ".Table.1.selections.txt", "audacity": ".txt"}
BAND = 8_000
"""Hz that the model hears up to."""


@dataclasses.dataclass(frozen=True)
class Label:
    """What was answered about a stretch of a recording."""

    file: str
    start: float
    end: float
    text: str


def one_line(text: str) -> str:
    """Text that breaks no column or line of a table: tabs, line ends and other control characters are blanks."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text)


def merged(rows: Iterable[dict], length: float = math.inf) -> Iterator[Label]:
    """The answers about a recording of `length` seconds, in order of time, as labels that end with it: equal ones of
    neighbouring or overlapping windows are one."""
    last = None
    for row in rows:
        label = Label(row["file"], row["start"], min(row["end"], length), " ".join(one_line(row["prediction"]).split()))
        if label.end <= label.start:
            continue
        if last and (last.file, last.text) == (label.file, label.text) and label.start <= last.end + CLOSE:
            last = dataclasses.replace(last, end=max(last.end, label.end))
            continue
        if last:
            yield last
        last = label
    if last:
        yield last


def write(answers: pathlib.Path, query: str, formats: Sequence[str]) -> list[pathlib.Path]:
    """Writes the answers to `query` of a file of JSON lines in other formats beside it; the files written.

    `csv` is one file; `raven` and `audacity` are a file for each recording, in a folder of the answers' name, in which
    the recordings' own folders are repeated.
    """
    rows, made = Rows(answers, query), []
    files = rows.files()
    if "csv" in formats:
        made.append(answers.with_suffix(".csv"))
        with made[-1].open("w", encoding="utf-8", newline="", errors="backslashreplace") as out:
            table = csv.writer(out)
            table.writerow([field.name for field in dataclasses.fields(Label)])
            for file in files:
                table.writerows(dataclasses.astuple(label) for label in merged(rows.of(file), length_of(file)))
    writers = {"raven": raven, "audacity": audacity}
    chosen = [name for name in writers if name in formats]
    for file, stem in zip(files, stems(files) if chosen else (), strict=bool(chosen)):
        for name in chosen:
            made.append(answers.with_suffix("") / f"{stem}{SUFFIXES[name]}")
            made[-1].parent.mkdir(parents=True, exist_ok=True)
            named = (
                label
                for label in merged(rows.of(file), length_of(file))
                if label.text.lower().strip(".") not in NOTHING
            )
            with made[-1].open("w", encoding="utf-8", errors="backslashreplace") as out:
                out.writelines(line + "\n" for line in writers[name](file, named))
    return made


def length_of(file: str) -> float:
    """Seconds of a recording, infinity if it is no longer there: rows may name a window's end behind it."""
    try:
        return wave.info(file).seconds
    except UserError:
        return math.inf


def stems(files: Sequence[str]) -> list[str]:
    """A path without suffix for the tables of each recording, all different, below the folder they share.

    The name is the recording's own, with its suffix if another one is called so, or with a number if that is taken too.
    """
    paths = [pathlib.Path(identity(file)) for file in files]
    shared = os.path.commonpath([path.parent for path in paths]) if paths else ""
    names = [[one_line(part) or "_" for part in path.relative_to(shared).parts] for path in paths]
    plain = ["/".join([*folders, pathlib.PurePath(name).stem]) for *folders, name in names]
    keys = [stem.casefold() for stem in plain]
    counts = collections.Counter(keys)
    alone = [counts[key] == 1 for key in keys]
    taken = {
        f"{key}{suffix}" for key, single in zip(keys, alone, strict=True) if single for suffix in SUFFIXES.values()
    }
    out = []
    for stem, single, (*folders, name) in zip(plain, alone, names, strict=True):
        number = 1
        while not single:
            stem = "/".join([*folders, name if number == 1 else f"{name}_{number}"])
            mine = {f"{stem.casefold()}{suffix}" for suffix in SUFFIXES.values()}
            if not mine & taken:
                taken |= mine
                break
            number += 1
        out.append(stem)
    return out


def raven(file: str, labels: Iterable[Label]) -> Iterator[str]:
    """The lines of a selection table that Raven opens on the recording."""
    names = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)",
             "Begin File", "Begin Path", "Species")  # fmt: skip
    yield "\t".join(names)
    path = identity(file)
    for number, label in enumerate(labels, 1):
        where = (
            f"{label.start:.3f}",
            f"{label.end:.3f}",
            "0",
            str(BAND),
            *map(one_line, (os.path.basename(path), path)),
        )
        yield "\t".join((str(number), "Spectrogram 1", "1", *where, label.text))


def audacity(file: str, labels: Iterable[Label]) -> Iterator[str]:
    """The lines of a label track that Audacity imports."""
    for label in labels:
        yield f"{label.start:.6f}\t{label.end:.6f}\t{label.text}"
