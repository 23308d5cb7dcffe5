"""Tables of labels with or without times: `labels.csv`, selections of Raven, results of BirdNET and Kaleidoscope,
sequences of crowsetta, metadata of ESC-50 and BirdCLEF, and any other that `columns.layout` understands.

    file,start,end,species            examples
    dawn.wav,0.5,1,Robin; Wren        dawn.wav#t=0.5,1: Robin    dawn.wav#t=0.5,1: Wren
    dawn.wav,2,3,nocall               dawn.wav#t=2,3: None
    dawn.wav,4,5,                     a reject: the row has no label
"""

import collections
import functools
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, Row
from nlm_jax.prepare.readers import (
    cells,
    columns,
    file_times,
    recording_facts,
    row_examples,
    row_recordings,
    row_streams,
    spans,
    tables,
)
from nlm_jax.prepare.readers.lookup import Lookup
from nlm_jax.prepare.rejects import Notice, Reject

QUESTIONS = {
    "scientificname": row_examples.QUESTIONS["scientific_name"],
    "speciesscientific": row_examples.QUESTIONS["scientific_name"],
    "calltype": row_examples.QUESTIONS["call_type"],
    "soundtype": row_examples.QUESTIONS["sound"],
}
"""Label column, without separators -> its question, if that is not for the common name."""
FILE_OFFSET = ("file_offset_s", "file_offset")
"""Columns with the start of a selection of Raven in its own file. In a table over several files, Begin Time counts
through all of them."""
QUESTION_COLUMNS = {*row_examples.PROMPT_COLUMNS, "task", "files", "extra_tasks", "facts", "audio"}
"""Columns of JSON rows that are questions of their own, not labels."""
ROW_COLUMNS = {
    *("selection", "view", "channel", "begin_file", "begin_path", "file_offset_s", "indir", "outdir", "folder"),
    *("in_file", "id", "prompt", "text", "task", "domain", "licence", "license", "split"),
}
"""Columns about the row, its recording or its question."""


def is_label_table(file: pathlib.Path) -> bool:
    """Whether a file is a table with labels of recordings that it names, or with times of one. JSON rows with questions
    are not."""
    names = tables.header(file)
    layout = columns.layout(names)
    if not layout.label or (cells.column_key(layout.label) == "text" and not layout.timed):
        return False
    if not tables.is_table(file) and (not layout.file or QUESTION_COLUMNS & set(names)):
        return False
    return bool(layout.file) or layout.timed


def is_selection_table(file: pathlib.Path) -> bool:
    """Whether a file is a selection table of Raven, with or without labels."""
    layout = columns.layout(tables.header(file) if tables.is_table(file) else ())
    return layout.timed and cells.column_key(layout.start) in ("begin_time_s", "begin_time")


def unused_columns(file: pathlib.Path) -> list[str]:
    """Columns of a label table that nothing is read from."""
    names = tables.header(file)
    layout = columns.layout(names)
    used = {layout.file, layout.label, *layout.times, *columns.matching(names, columns.LABEL)}
    read = ROW_COLUMNS | recording_facts.MEANING.keys()
    return [name for name in names if name not in used and cells.column_key(name) not in read]


class LabelTable:
    """One table of labels."""

    def __init__(self, file: pathlib.Path, lookup: Lookup, split: str = ""):
        """Reads one file.

        Args:
          file: the table.
          lookup: finds its recordings.
          split: that of rows without one.
        """
        self._file = file
        self._split = split
        self._root = lookup.root
        self._names = tables.header(file)
        self._layout = columns.layout(self._names)
        self._is_raven = is_selection_table(file)
        self._recordings = row_recordings.RowRecordings(file, lookup, self._names, self._is_raven)
        offsets = (name for key in FILE_OFFSET for name in self._names if cells.column_key(name) == key)
        self._offset = next(offsets, "") if self._is_raven else ""

    def examples(self) -> Iterator[Example | Reject | Notice]:
        """One question for each label of each row, about the recording or the part of it.

        A selection that Raven lists in two views (waveform and spectrogram) counts once.

        Raises:
          UserError: no header, or not text.
        """
        if not self._layout.label and self._names:
            yield self._no_label_column()
        elif not self._survey.rows:
            yield from self._of_empty_table()
        else:
            for name in self._layout.unused if self._layout.timed else ():
                yield Notice(f"{self._file}: column {name!r} looks like a time and is not used")
            rows = tables.rows(self._file)
            items = row_streams.convert_rows(rows, self._of_row, self._recordings.of_reject)
            yield from _without_views(items) if self._is_raven else items

    def _no_label_column(self) -> Reject:
        accepted = "species, label, common name, annotation, class, category, tags, sound type or call type"
        header = f"the first line names {', '.join(self._names)}"
        reason = f"no label; name its column one of {accepted}; {header}"
        return Reject(str(self._file), f"{self._file}:1", reason)

    def _of_empty_table(self) -> Iterator[Example | Reject]:
        """A selection table without rows says that nothing is heard in its recording; other tables say nothing."""
        if self._is_raven:
            row = Row({}, f"{self._file}:1")
            yield from row_streams.convert_rows(
                [row], lambda row: [row_examples.negative_example(row, self._recordings.of_table())]
            )

    # --- Rows ---

    def _of_row(self, row: Row) -> Iterator[Example]:
        column = self._survey.label_column
        labels = self._labels(row, column)
        recording = self._recordings.of_row(row)
        span = self._span(row, recording)
        recording = self._recordings.channel(row, recording)
        for values, label in self._label_rows(row, column, labels):
            if cells.is_silent(label):
                yield row_examples.negative_example(values, recording, *span)
            else:
                question = QUESTIONS.get(
                    cells.column_key(column).replace("_", ""), row_examples.QUESTIONS["common_name"]
                )
                yield row_examples.label_example(values, recording, label, *span, question=question)

    def _labels(self, row: Row, column: str) -> list[str]:
        cell = row.values.get(column)
        if cells.is_object(cell):
            raise UserError(
                f"{row.where}: {column!r} holds an object; export one row with start, end and label an event"
            )
        labels = cells.labels(cell, self._survey.vocabulary)
        if not labels:
            raise UserError(f"{row.where}: missing field {column!r}: the row has no label")
        return labels

    def _label_rows(self, row: Row, column: str, labels: list[str]) -> Iterator[tuple[Row, str]]:
        """A row and its label, for each label of a row: with the label alone in its column, and an id of its own."""
        values = dict(row.values)
        if cells.column_key(column) == "text":  # not the answer of a question of its own
            values.pop("text", None)
        if self._split:
            values = {"split": self._split, **values}
        for number, label in enumerate(labels):
            single = dict(values)
            if len(labels) > 1:
                single[column] = label
                if values.get("id"):
                    single["id"] = f"{values['id']}#{number}"
            yield Row(single, row.where), label

    # --- Times ---

    def _span(self, row: Row, recording: str) -> spans.Span:
        """The part of its recording that a row is about."""
        span = spans.span(row)
        if span.start is None:
            if self._is_raven:
                raise UserError(f"{row.where}: the selection has no times")
            return span
        if self._offset and (start := spans.seconds(row, self._offset)) is not None:
            return spans.Span(start, start + span.end - span.start)
        before = self._seconds_before.get(recording, 0.0)
        if isinstance(before, str):
            raise UserError(f"{row.where}: {before}")
        return spans.Span(span.start - before, span.end - before)

    @functools.cached_property
    def _seconds_before(self) -> dict[str, float | str]:
        """Recording -> seconds that Begin Time counts before it in a table over several; or why they are unknown."""
        if not (self._is_raven and self._recordings.named) or self._offset:
            return {}
        selections: list[tuple[str, float, float]] = []
        for row in tables.rows(self._file):
            try:
                if isinstance(row, Row):
                    selections.append((self._recordings.of_row(row), *spans.span(row)))
            except UserError:
                continue  # reported as a reject
        return file_times.seconds_before(selections, self._root)

    @functools.cached_property
    def _survey(self) -> "_Survey":
        candidates = columns.matching(self._names, columns.LABEL)
        vocabularies: dict[str, set[str]] = collections.defaultdict(set)
        rows = 0
        for row in tables.rows(self._file):
            rows += isinstance(row, Row | Reject)
            if isinstance(row, Row):
                for name in candidates:
                    vocabularies[name].update(cells.single_labels(row.values.get(name)))
        column = next((name for name in candidates if vocabularies[name]), self._layout.label)
        return _Survey(rows, column, frozenset(vocabularies[column]))


class _Survey(NamedTuple):
    """Results of a first pass over a table."""

    rows: int
    label_column: str
    """The first that is not empty in all rows."""
    vocabulary: frozenset[str]
    """Labels that stand alone in a cell of it."""


def _without_views(items: Iterator[Example | Reject | Notice]) -> Iterator[Example | Reject | Notice]:
    """The items without examples that repeat one."""
    seen: set[tuple[object, ...]] = set()
    for item in items:
        if isinstance(item, Example):
            if (key := (item.paths, item.text, item.prompt)) in seen:
                continue
            seen.add(key)
        yield item
