"""Answers about windows as label files: CSV tables, Raven selection tables, Audacity label tracks."""

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
from nlm_jax.generate.answer_file import AnswerFile

FORMATS = ("csv", "raven", "audacity")
NO_LABEL = ("", "none")
"""Answers, in lower case, that name nothing: only the CSV table has them."""
GAP = 0.01
"""Seconds between two windows up to which they count as adjacent."""
SUFFIXES = {"raven": ".Table.1.selections.txt", "audacity": ".txt"}
HIGHEST_FREQUENCY = 8_000
"""Upper limit of the model's input in Hz."""


@dataclasses.dataclass(frozen=True)
class Label:
    """The answer for a section of a recording, in seconds from its start."""

    file: str
    start: float
    end: float
    text: str


def one_line(text: str) -> str:
    """`text` with tabs, line breaks and other control characters replaced by blanks, so that tables stay intact."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text)


def merged(rows: Iterable[dict], length: float = math.inf) -> Iterator[Label]:
    """Labels from the answers about a recording: identical answers of adjacent or overlapping windows are merged.

    Args:
      rows: rows of the answer file, in order of time.
      length: seconds of the recording; labels end there at the latest.
    """
    last = None
    for row in rows:
        label = Label(row["file"], row["start"], min(row["end"], length), " ".join(one_line(row["prediction"]).split()))
        if label.end <= label.start:
            continue
        if last and (last.file, last.text) == (label.file, label.text) and label.start <= last.end + GAP:
            last = dataclasses.replace(last, end=max(last.end, label.end))
            continue
        if last:
            yield last
        last = label
    if last:
        yield last


def write(answers: pathlib.Path, query: str, formats: Sequence[str]) -> list[pathlib.Path]:
    """Writes the answers to `query` in other formats, next to the file of answers.

    `csv` is one file; `raven` and `audacity` are a file for each recording, in a folder with the name of the answers,
    which mirrors the folders of the recordings.

    Args:
      answers: the JSON lines of `nlm infer`.
      query: only rows with this query are written.
      formats: names from `FORMATS`.

    Returns:
      the files written.
    """
    answer_file, paths = AnswerFile(answers, query), []
    recordings = answer_file.recordings()

    def labels(recording: str) -> Iterator[Label]:
        return merged(answer_file.rows(recording), _duration(recording))

    if "csv" in formats:
        paths.append(answers.with_suffix(".csv"))
        with paths[-1].open("w", encoding="utf-8", newline="", errors="backslashreplace") as out:
            table = csv.writer(out)
            table.writerow([field.name for field in dataclasses.fields(Label)])
            for recording in recordings:
                table.writerows(map(dataclasses.astuple, labels(recording)))
    writers = {"raven": raven, "audacity": audacity}
    names = [name for name in writers if name in formats]
    for recording, stem in zip(recordings, stems(recordings), strict=True) if names else ():
        for name in names:
            paths.append(answers.with_suffix("") / f"{stem}{SUFFIXES[name]}")
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            sounds = (label for label in labels(recording) if label.text.lower().strip(".") not in NO_LABEL)
            with paths[-1].open("w", encoding="utf-8", errors="backslashreplace") as out:
                out.writelines(line + "\n" for line in writers[name](recording, sounds))
    return paths


def _duration(recording: str) -> float:
    """Seconds of a recording, infinity if it no longer exists. (The window of a row may extend past the recording.)"""
    try:
        return wave.info(recording).seconds
    except UserError:
        return math.inf


def stems(recordings: Sequence[str]) -> list[str]:
    """A unique path without suffix for the label files of each recording, relative to their common folder.

    The name is that of the recording; with its suffix if another recording has the same name without it; and with a
    number if that is taken as well.
    """
    paths = [pathlib.Path(identity(recording)) for recording in recordings]
    common = os.path.commonpath([path.parent for path in paths]) if paths else ""
    names = [[one_line(part) or "_" for part in path.relative_to(common).parts] for path in paths]
    plain = ["/".join([*folders, pathlib.PurePath(name).stem]) for *folders, name in names]
    keys = [stem.casefold() for stem in plain]
    counts = collections.Counter(keys)
    unique = [counts[key] == 1 for key in keys]
    used = {
        f"{key}{suffix}" for key, single in zip(keys, unique, strict=True) if single for suffix in SUFFIXES.values()
    }
    result = []
    for stem, single, (*folders, name) in zip(plain, unique, names, strict=True):
        number = 1
        while not single:
            stem = "/".join([*folders, name if number == 1 else f"{name}_{number}"])
            files = {f"{stem.casefold()}{suffix}" for suffix in SUFFIXES.values()}
            if not files & used:
                used |= files
                break
            number += 1
        result.append(stem)
    return result


def raven(recording: str, labels: Iterable[Label]) -> Iterator[str]:
    """The lines of a selection table that Raven opens together with the recording."""
    names = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)",
             "Begin File", "Begin Path", "Species")  # fmt: skip
    yield "\t".join(names)
    path = identity(recording)
    begin_file, begin_path = one_line(os.path.basename(path)), one_line(path)
    for number, label in enumerate(labels, 1):
        times = (f"{label.start:.3f}", f"{label.end:.3f}")
        band = ("0", str(HIGHEST_FREQUENCY))
        yield "\t".join((str(number), "Spectrogram 1", "1", *times, *band, begin_file, begin_path, label.text))


def audacity(recording: str, labels: Iterable[Label]) -> Iterator[str]:
    """The lines of a label track that Audacity imports."""
    for label in labels:
        yield f"{label.start:.6f}\t{label.end:.6f}\t{label.text}"
