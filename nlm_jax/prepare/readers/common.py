"""What readers of labels and metadata share: the question a row answers, names of parts, and where recordings are."""

import dataclasses
import logging
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from nlm_jax.audio import formats
from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import NONE, Example, Row, part_name, span_fault
from nlm_jax.prepare import audio_sources, windowing
from nlm_jax.prepare.readers import cells, columns, recording_facts
from nlm_jax.prepare.readers.lookup import Lookup
from nlm_jax.prepare.rejects import Notice, Reject

log = logging.getLogger(__name__)
PROMPT, TASK = "What is the common name for the focal species in the audio?", "common-name"
QUESTIONS = {
    "caption": ("Caption the audio.", "caption"),
    "common_name": (PROMPT, TASK),
    "scientific_name": ("What is the scientific name for the focal species in the audio?", "scientific-name"),
    **{
        rank: (f"What is the {rank} of the focal species in the audio?", f"{rank}-name")
        for rank in ("genus", "family", "order", "class", "phylum")
    },
    "call_type": ("What call types are heard from the focal species in the audio?", "call-type"),
    "sound": ("What sound is in the audio?", "sound"),
    "transcript": ("Transcribe the speech in the audio.", "transcription"),
}
"""Fact -> the question that it answers, and the task. Of a row without a question the first fact that it has counts."""
SILENT = "the row says nothing about what is heard"
ASKS = ("prompt", "instruction_text", "instruction", "question", "query")
ANSWERS = ("text", "output", "answer", "response", "target")
STEM = re.compile(
    r"(\.birdnet)?(([._-](table[._-]\d+|selection[._-]table|selections?|results|labels?|annotations?))|\.(r|csv|txt))*$",
    re.IGNORECASE,
)
"""What programs put behind the name of a recording in that of its table: `dawn.Table.1.selections`."""
LABELS = ("label", "labels", "cls", "category", "target_name", "species", "class", "class_name", "class_label")
LABELS += ("primary_label", "ebird_code_multilabel", "ebird_code", "species_code", "event_label", "annotation", "tags")


def example(
    row: Row,
    path: str,
    label: str,
    start: float | None = None,
    end: float | None = None,
    facts: Mapping[str, str] | None = None,
    ask: tuple[str, str] = (PROMPT, TASK),
    source: str = "unknown",
) -> Example:
    """The question about a recording, or the part of it between `start` and `end` seconds, that `label` answers.

    Columns `prompt`, `text`, `task`, `domain`, `licence`, `split` and `id` of the row change what is asked.

    Raises:
      UserError: a start and an end that no part has, see `schema.span_fault`.
    """
    if start is not None and (fault := span_fault(start, end)):
        raise UserError(f"{row.where}: {fault}")
    name = path if start is None else part_name(path, start, end)
    return Example(
        id=row.text("id", default="") or name,
        paths=(name,),
        prompt=row.text(*ASKS[:1], default="") or ask[0],
        text=row.text("text", default="") or label,
        task=row.text("task", default="") or ask[1],
        domain=row.text("domain", default="") or source,
        licence=recording_facts.licence(row.text("licence", "license", default="")),
        label=label,
        split=row.text("split", default=""),
        where=row.where,
        facts=recording_facts.facts(row.values, sure=False) if facts is None else facts,
    )


def written(row: Row) -> str:
    """What a row calls its recording, "" if it does not."""
    name = columns.layout(row.values).file
    return str(row.values[name]).strip() if name and row.values[name] else ""


def each(
    rows: Iterable[Row | Reject | Notice],
    made: Callable[[Row], Iterable[Example | None]],
    named: Callable[[Row], str] = written,
) -> Iterator[Example | Reject | Notice | None]:
    """The examples `made` of each row; a row of which that raises a UserError is a reject, and the next one follows.

    Args:
      rows: what `tables.rows` gives; all but rows passes through.
      made: the examples of a row.
      named: the name of the recording of a rejected row.
    """
    for row in rows:
        if isinstance(row, Reject | Notice):
            yield row
            continue
        try:
            yield from made(row)
        except UserError as error:
            yield Reject(named(row), row.where, str(error).removeprefix(f"{row.where}: "))


def negative(row: Row, path: str, start: float | None = None, end: float | None = None) -> Example:
    """The question what is heard in a recording, or in a part of it, that nothing is the answer to.

    Raises:
      UserError: as `example`.
    """
    values = {key: row.values[key] for key in ("id", "domain", "licence", "license", "split") if row.values.get(key)}
    bare = Row(values, row.where)
    return example(bare, path, NONE, start, end, {}, ask=(windowing.PROMPT, windowing.TASK))


def beside(file: pathlib.Path, lookup: Lookup) -> str:
    """The name of the recording that has the name of a table or track: beside it, or else below the audio root.

    Raises:
      UserError: there is none, or several.
    """
    stems = dict.fromkeys((file.stem, STEM.sub("", file.stem)))
    for stem in stems:
        if formats.is_readable(stem) and (file.parent / stem).is_file():  # dawn.wav.txt
            return audio_sources.name_of(file.parent / stem, lookup.root)
        name = str(file.resolve().with_name(stem))
        found = lookup.find([name, stem], file.parent, near=True)
        if found != name:
            return found
    raise UserError(f"{file}: no recording {list(stems)[-1]} with .wav, .flac or another suffix of sound beside it")


def told(row: Row, path: str, facts: Mapping[str, str], source: str = "unknown") -> Example:
    """The question about a recording that a row of metadata answers: its own, its label's, or that of its first fact.

    Raises:
      UserError: the row says nothing that could be asked.
    """
    values = row.values
    asks = next((values[k] for k in ASKS if isinstance(values.get(k), str) and values[k].strip()), "")
    answer = next((recording_facts.text(values[k]) for k in ANSWERS if recording_facts.text(values.get(k))), "")
    bare = Row({k: v for k, v in values.items() if k not in ASKS and (k != "text" or asks)}, row.where)
    if asks and answer:
        return example(bare, path, answer, facts=facts, ask=(asks, "question"), source=source)
    if not asks and isinstance(values.get("text"), str) and not {"caption", "transcript"} & set(facts):
        facts = {**facts, "caption": values["text"]} if values["text"].strip() else facts
    if fact := next((name for name in QUESTIONS if facts.get(name)), ""):
        label, ask, listed = facts[fact], QUESTIONS[fact], None
    else:
        listed = next((values[k] for k in LABELS if recording_facts.text(values.get(k))), None)
        label, ask = recording_facts.text(listed), (PROMPT, TASK)
    if not label:
        raise UserError(f"{row.where}: {SILENT}")
    if cells.is_silent(label):
        return negative(row, path)
    several: list[str] = []
    if ask != QUESTIONS["caption"] and ask != QUESTIONS["transcript"]:
        several = [one for part in (listed if isinstance(listed, list) else [label]) for one in cells.labels(part)]
        label = ", ".join(several) or label
    one = example(bare, path, label, facts=facts, ask=ask, source=source)
    return dataclasses.replace(one, labels=tuple(dict.fromkeys(several))) if len(several) > 1 else one


def told_of(
    path: pathlib.Path, found: Iterable[Example | Reject | Notice | None], names: Iterable[str]
) -> Iterator[Example | Reject | Notice]:
    """What is `found`, and how many rows say nothing: rejects for that, and None for rows that a reader passes over.

    Args:
      path: the annotations, for messages.
      found: what was made of the rows.
      names: the columns.

    Raises:
      UserError: no row says anything.
    """
    made = silent = 0
    for one in found:
        silent += one is None or (isinstance(one, Reject) and one.reason == SILENT)
        made += isinstance(one, Example)
        if one is not None:
            yield one
    if silent and not made:
        known = "label, caption, common_name, scientific_name, or prompt and text"
        given = ", ".join(sorted(names))
        raise UserError(f"{path}: no row says what is heard; have a column {known}. Its columns are {given}")
    if silent:
        yield Notice(f"{path}: {silent} of {silent + made} rows say nothing about their recording and are left out")


def unique(examples: Iterable[Example | Reject | Notice]) -> Iterator[Example | Reject | Notice]:
    """The examples without repeats of the same one; those that have no id but their recording's name all stay.

    Raises:
      UserError: an id that belongs to two different ones, with both places.
    """
    seen: dict[str, tuple[int, str]] = {}
    for one in examples:
        if not isinstance(one, Example) or one.id.startswith(one.paths[0]):
            yield one
            continue
        content = hash((one.paths, one.prompt, one.text))
        before = seen.setdefault(one.id, (content, one.where))
        if before[0] != content:
            raise UserError(f"{one.where}: id {one.id!r} is that of {before[1]} as well; give each row its own id")
        if before[1] == one.where:
            yield one


def seconds(row: Row, *names: str) -> float | None:
    """The time in the first of these columns that a table has, in seconds; None if the row has none.

    Raises:
      UserError: something that is no time.
    """
    return next((columns.seconds(row, name) for name in names if row.values.get(name) is not None), None)


def below(root: pathlib.Path) -> dict[str, str]:
    """Every recording below `root` by its file name, and by its stem, without capitals -> its path from there."""
    found: dict[str, str] = {}
    for file in formats.Folder.of(root).recordings if root.is_dir() else ():
        path = file.relative_to(root).as_posix()
        found.setdefault(file.name.lower(), path)
        found.setdefault(file.stem.lower(), path)
    return found
