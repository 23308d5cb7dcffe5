"""Answers about windows as labels people open in their own programs: a table, Raven's selections, Audacity's tracks."""

import collections
import csv
import dataclasses
import pathlib
from collections.abc import Iterable, Iterator

from nlm_jax.generate.answered import Rows

FORMATS = ("csv", "raven", "audacity")
NOTHING = ("", "none")
"""Answers that name nothing: they are in the table, but are no label."""
CLOSE = 0.01
"""Seconds between two windows that still count as neighbours."""


@dataclasses.dataclass(frozen=True)
class Label:
    """What was answered about a stretch of a recording."""

    file: str
    start: float
    end: float
    text: str


def merged(rows: Iterable[dict]) -> Iterator[Label]:
    """The answers about a recording, in order of time, as labels: equal ones of neighbouring or overlapping windows are
    one."""
    last = None
    for row in rows:
        label = Label(row["file"], row["start"], row["end"], " ".join(row["prediction"].split()))
        if last and (last.file, last.text) == (label.file, label.text) and label.start <= last.end + CLOSE:
            last = dataclasses.replace(last, end=max(last.end, label.end))
            continue
        if last:
            yield last
        last = label
    if last:
        yield last


def write(answers: pathlib.Path, query: str, formats: Iterable[str]) -> list[pathlib.Path]:
    """Writes the answers to `query` of a file of JSON lines in other formats beside it; the files written.

    `csv` is one file; `raven` and `audacity` are a file for each recording, in a folder of the answers' name, under a
    number where two recordings have one name.
    """
    rows, made = Rows(answers, query), []
    if "csv" in formats:
        made.append(answers.with_suffix(".csv"))
        with made[-1].open("w", encoding="utf-8", newline="") as out:
            table = csv.writer(out)
            table.writerow([field.name for field in dataclasses.fields(Label)])
            for file in rows.files():
                table.writerows(dataclasses.astuple(label) for label in merged(rows.of(file)))
    writers = {"raven": raven, "audacity": audacity}
    names: collections.Counter = collections.Counter()
    for file in rows.files():
        stem = pathlib.Path(file).stem
        names[stem] += 1
        stem += f"_{names[stem]}" if names[stem] > 1 else ""
        for name in [f for f in formats if f in writers]:
            named = (label for label in merged(rows.of(file)) if label.text.lower().strip(".") not in NOTHING)
            made.append(writers[name](answers.with_suffix(""), stem, named))
    return made


def raven(folder: pathlib.Path, stem: str, labels: Iterable[Label]) -> pathlib.Path:
    """A selection table that Raven opens on the recording."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.Table.1.selections.txt"
    names = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)",
             "Begin File", "Species")  # fmt: skip
    with path.open("w", encoding="utf-8") as out:
        out.write("\t".join(names) + "\n")
        for number, label in enumerate(labels, 1):
            where = (f"{label.start:.3f}", f"{label.end:.3f}", "0", "8000", pathlib.Path(label.file).name)
            out.write("\t".join((str(number), "Spectrogram 1", "1", *where, label.text)) + "\n")
    return path


def audacity(folder: pathlib.Path, stem: str, labels: Iterable[Label]) -> pathlib.Path:
    """A label track that Audacity imports."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.txt"
    with path.open("w", encoding="utf-8") as out:
        out.writelines(f"{x.start:.6f}\t{x.end:.6f}\t{x.text}\n" for x in labels)
    return path
