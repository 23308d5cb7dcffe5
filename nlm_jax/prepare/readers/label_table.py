"""Tables of labels with or without times: `labels.csv`, selections of Raven, results of BirdNET and Kaleidoscope,
sequences of crowsetta, metadata of ESC-50 and BirdCLEF, and any other whose columns `columns.layout` understands."""

import collections
import functools
import pathlib
from collections.abc import Iterator

from nlm_jax.audio import wave
from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, Row
from nlm_jax.prepare import audio_sources
from nlm_jax.prepare.readers import cells, columns, common, file_times, recording_facts, tables
from nlm_jax.prepare.readers.lookup import Lookup
from nlm_jax.prepare.rejects import Notice, Reject

ASKS = {
    **dict.fromkeys(("scientific_name", "species_scientific"), common.QUESTIONS["scientific_name"]),
    "call_type": common.QUESTIONS["call_type"],
    "sound_type": common.QUESTIONS["sound"],
}
ASKS = {name.replace("_", ""): ask for name, ask in ASKS.items()}
"""Column of the label -> what is asked, if that is not the common name."""
BESIDE = ("metadata.csv",)
"""Tables whose names of recordings begin in their own folder, not in the audio root."""
OFFSET = ("file_offset_s", "file_offset")
"""Where a selection of Raven begins in its own file: in a table over several files, Begin Time counts through all."""
QUESTION = {*common.ASKS, "task", "files", "extra_tasks", "facts", "audio"}
PARTS = {
    *(
        "selection",
        "view",
        "channel",
        "begin_file",
        "begin_path",
        "file_offset_s",
        "indir",
        "outdir",
        "folder",
        "in_file",
    ),
    *("id", "prompt", "text", "task", "domain", "licence", "license", "split"),
}
"""Columns that say which row, recording or question it is."""


def fits(file: pathlib.Path) -> bool:
    """Whether a file is such a table: it has labels, and names recordings or has times for one. Rows of JSON that ask a
    question are none."""
    names = tables.header(file)
    layout = columns.layout(names)
    if not layout.label or (recording_facts.plain(layout.label) == "text" and not layout.timed):
        return False
    if not tables.is_table(file) and (not layout.file or QUESTION & set(names)):
        return False
    return bool(layout.file) or layout.timed


def is_selections(file: pathlib.Path) -> bool:
    """Whether a file is a selection table of Raven, with or without labels."""
    layout = columns.layout(tables.header(file) if tables.is_table(file) else ())
    return layout.timed and recording_facts.plain(layout.start) in ("begin_time_s", "begin_time")


def ignored(file: pathlib.Path) -> list[str]:
    """Columns of such a table that nothing is made of."""
    layout = columns.layout(tables.header(file))
    used = {layout.file, layout.label, layout.start, layout.end, layout.duration}
    meant, names = PARTS | recording_facts.MEANING.keys(), tables.header(file)
    used.update(columns.named(names, columns.LABEL))
    return [name for name in names if name not in used and recording_facts.plain(name) not in meant]


class LabelTable:
    """One table of labels."""

    def __init__(self, file: pathlib.Path, lookup: Lookup, split: str = ""):
        """A table whose rows belong to `split` if they do not say to which."""
        self.split = split
        self.file = file
        self.lookup = lookup
        self.names = names = tables.header(file)
        self.plain = {recording_facts.plain(name): name for name in reversed(names)}
        self.layout = columns.layout(names)
        self.raven = is_selections(file)
        self.near = self.raven or self.file.name in BESIDE
        self.kaleidoscope = {"folder", "in_file"} <= self.plain.keys()
        self.offset = next((self.plain[name] for name in OFFSET if name in self.plain), "") if self.raven else ""

    def examples(self) -> Iterator[Example | Reject | Notice]:
        """One question for each label of each row, about its recording or its part; one that Raven lists in two views
        (waveform and spectrogram) counts once.

        Raises:
          UserError: no header, or not text.
        """
        if not self.layout.label and self.names:
            accepted = "species, label, common name, annotation, class, category, tags, sound type or call type"
            has = f"the first line names {', '.join(self.names)}"
            yield Reject(str(self.file), f"{self.file}:1", f"no label; name its column one of {accepted}; {has}")
            return
        if not self.count:
            yield from self._empty()
            return
        yield from self._unused()
        seen: set[tuple[object, ...]] = set()
        for item in common.each(tables.rows(self.file), self._row, self._named):
            key = (item.paths, item.text, item.prompt) if isinstance(item, Example) and self.raven else None
            if key is None or key not in seen:
                seen.add(key)
                yield item

    @functools.cached_property
    def _survey(self) -> tuple[int, str, frozenset[str]]:
        """Rows, the column with the labels (the first that is not all empty), and the labels that stand alone in it."""
        candidates = columns.named(self.names, columns.LABEL)
        single: dict[str, set[str]] = collections.defaultdict(set)
        rows = 0
        for row in tables.rows(self.file):
            rows += isinstance(row, Row | Reject)
            if isinstance(row, Row):
                for name in candidates:
                    single[name].update(cells.alone(row.values.get(name)))
        column = next((name for name in candidates if single[name]), self.layout.label)
        return rows, column, frozenset(single[column])

    @property
    def count(self) -> int:
        return self._survey[0]

    def _empty(self) -> Iterator[Example | Reject]:
        """A table of selections without any says that its recording was listened to, and nothing heard."""
        if self.raven:
            row = Row({}, f"{self.file}:1")
            yield from common.each([row], lambda row: [common.negative(row, self._beside())])

    def _unused(self) -> Iterator[Notice]:
        for name in self.layout.unused if self.layout.timed else ():
            yield Notice(f"{self.file}: column {name!r} looks like a time and is not used")

    def _row(self, row: Row) -> Iterator[Example]:
        _, column, single = self._survey
        cell_labels = cells.labels(row.values.get(column), single)
        if cells.is_object(row.values.get(column)):
            raise UserError(
                f"{row.where}: {column!r} holds an object; export one row with start, end and label an event"
            )
        if not cell_labels:
            raise UserError(f"{row.where}: missing field {column!r}: the row has no label")
        file = self._recording(row)
        start, end = self._span(row, file)
        file = self._channel(row, file)
        hidden = {"text"} if recording_facts.plain(column) == "text" else set()
        for number, label in enumerate(cell_labels):
            values = {name: value for name, value in row.values.items() if name not in hidden}
            values = {"split": self.split, **values} if self.split else values
            if len(cell_labels) > 1:
                ident = {"id": f"{values['id']}#{number}"} if values.get("id") else {}
                values = {**values, **ident, column: label}
            one = Row(values, row.where)
            if cells.is_silent(label):
                yield common.negative(one, file, start, end)
            else:
                ask = ASKS.get(recording_facts.plain(column).replace("_", ""), common.QUESTIONS["common_name"])
                yield common.example(one, file, label, start, end, ask=ask)

    def _named(self, row: Row) -> str:
        """The recording of a row that no example is made of."""
        try:
            return self._recording(row)
        except UserError:
            return common.written(row)

    def _recording(self, row: Row) -> str:
        """The name of the recording of a row: of its columns, or of the table."""
        if not self.layout.file:
            try:
                return self._beside()
            except UserError as error:
                raise UserError(f"{error}, and no column such as file or filename that names recordings") from error
        return self.lookup.find(self._names(row), self.file.parent, near=self.near)

    def _names(self, row: Row) -> list[str]:
        """What a row calls its recording, the fullest name first."""
        fields = {key: str(row.values[name]).strip() for key, name in self.plain.items() if row.values.get(name)}
        if self.kaleidoscope:
            folders = [fields.get("indir", ""), fields.get("folder", "")]
            name = fields.get("in_file") or row.text(self.plain["in_file"], empty=False)
            every = ["/".join(filter(None, (*folders[n:], name))) for n in range(3)]
        elif self.raven and ("begin_path" in fields or "begin_file" in fields):
            path, name = fields.get("begin_path", ""), fields.get("begin_file", "")
            if path and name and not path.lower().endswith(name.lower()):
                path = f"{path}/{name}"
            every = [path, name]
        elif self.raven and self.layout.file in (self.plain.get("begin_path"), self.plain.get("begin_file")):
            return [self._beside()]
        else:
            every = [row.text(self.layout.file, empty=False).strip()]
        return list(dict.fromkeys(filter(None, every)))

    def _beside(self) -> str:
        """The recording that has the name of the table."""
        return common.beside(self.file, self.lookup)

    def _span(self, row: Row, file: str) -> columns.Span:
        start, end = columns.span(row)
        if start is None and self.raven:
            raise UserError(f"{row.where}: the selection has no times")
        if start is None:
            return columns.Span(None, None)
        if self.offset and (own := columns.seconds(row, self.offset)) is not None:
            return columns.Span(own, own + end - start)
        before = self._before.get(file, 0.0)
        if isinstance(before, str):
            raise UserError(f"{row.where}: {before}")
        return columns.Span(start - before, end - before)

    @functools.cached_property
    def _before(self) -> dict[str, float | str]:
        """Seconds that Begin Time counts before each file of a table over several; why that is not known."""
        if not (self.raven and self.layout.file) or self.offset:
            return {}
        spans: list[tuple[str, float, float]] = []
        for row in tables.rows(self.file):
            try:
                if isinstance(row, Row):
                    spans.append((self._recording(row), *columns.span(row)))
            except UserError:
                continue  # a reject of its own
        return file_times.before(spans, self.lookup.root)

    def _channel(self, row: Row, file: str) -> str:
        """The channel of its recording that a selection is in, if that has several."""
        channel = row.text(self.plain.get("channel", ""), default="").strip()
        if not channel.isdigit() or not (self.raven or self.kaleidoscope):
            return file
        count, number = _channels(self.lookup.root / file), int(channel) + self.kaleidoscope
        if not count or (count == 1 and number == 1):
            return file
        if not 1 <= number <= count:
            raise UserError(f"{row.where}: channel {channel} of a recording with {count}")
        return audio_sources.channel_name(file, number) if count > 1 else file


@functools.lru_cache(4096)
def _channels(file: pathlib.Path) -> int:
    """Channels of a recording, 0 if it cannot be read."""
    try:
        return wave.info(file).channels
    except UserError:
        return 0
