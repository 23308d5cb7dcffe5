"""Answers about windows as labels people open in their own programs: a table, Raven's selections, Audacity's tracks."""

import collections
import csv
import dataclasses
import itertools
import json
import pathlib
from collections.abc import Iterable

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


def merged(rows: Iterable[dict]) -> list[Label]:
    """The answers of one question as labels in order; equal ones about neighbouring or overlapping windows are one."""
    found: list[Label] = []
    for row in sorted((r for r in rows if "error" not in r), key=lambda r: (r["file"], r["start"])):
        label = Label(row["file"], row["start"], row["end"], " ".join(row["prediction"].split()))
        last = found[-1] if found else None
        if last and (last.file, last.text) == (label.file, label.text) and label.start <= last.end + CLOSE:
            found[-1] = dataclasses.replace(last, end=max(last.end, label.end))
        else:
            found.append(label)
    return found


def write(answers: pathlib.Path, query: str, formats: Iterable[str]) -> list[pathlib.Path]:
    """Writes the answers to `query` of a file of JSON lines in other formats beside it; the files written.

    `csv` is one file; `raven` and `audacity` are a file for each recording, in a folder of the answers' name, under a
    number where two recordings have one name.
    """
    lines = answers.read_text(encoding="utf-8").splitlines()
    labels = merged(row for row in map(json.loads, lines) if row.get("query", query) == query)
    made = []
    if "csv" in formats:
        made.append(answers.with_suffix(".csv"))
        with made[-1].open("w", encoding="utf-8", newline="") as out:
            rows = csv.writer(out)
            rows.writerow([field.name for field in dataclasses.fields(Label)])
            rows.writerows(dataclasses.astuple(label) for label in labels)
    writers = {"raven": raven, "audacity": audacity}
    names: collections.Counter = collections.Counter()
    for file, group in itertools.groupby(labels, key=lambda label: label.file):
        mine = [label for label in group if label.text.lower().strip(".") not in NOTHING]
        stem = pathlib.Path(file).stem
        names[stem] += 1
        stem += f"_{names[stem]}" if names[stem] > 1 else ""
        for name in [f for f in formats if f in writers]:
            made.append(writers[name](answers.with_suffix(""), stem, mine))
    return made


def raven(folder: pathlib.Path, stem: str, labels: list[Label]) -> pathlib.Path:
    """A selection table that Raven opens on the recording."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{stem}.Table.1.selections.txt"
    names = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)",
             "Begin File", "Species")  # fmt: skip
    rows = ["\t".join(names)]
    for number, label in enumerate(labels, 1):
        where = (f"{label.start:.3f}", f"{label.end:.3f}", "0", "8000", pathlib.Path(label.file).name)
        rows.append("\t".join((str(number), "Spectrogram 1", "1", *where, label.text)))
    out.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return out


def audacity(folder: pathlib.Path, stem: str, labels: list[Label]) -> pathlib.Path:
    """A label track that Audacity imports."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{stem}.txt"
    out.write_text("".join(f"{x.start:.6f}\t{x.end:.6f}\t{x.text}\n" for x in labels), encoding="utf-8")
    return out
