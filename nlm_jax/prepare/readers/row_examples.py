"""Examples from rows of tables: the question that a label answers, or that the metadata of a recording answers.

Examples:
    the row has                              the example asks             and answers
    label: Robin                             for the common name          Robin
    prompt: How many?  text: Two             How many?                    Two
    caption: A robin sings                   for a caption                A robin sings
    genus: Erithacus  (no other fact)        for the genus                Erithacus
    label: nocall                            which species, if any        None
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import NONE, Example, Row, part_name, span_fault
from nlm_jax.prepare import windowing
from nlm_jax.prepare.readers import cells, recording_facts

QUESTIONS = {
    "caption": ("Caption the audio.", "caption"),
    "common_name": ("What is the common name for the focal species in the audio?", "common-name"),
    "scientific_name": ("What is the scientific name for the focal species in the audio?", "scientific-name"),
    **{
        rank: (f"What is the {rank} of the focal species in the audio?", f"{rank}-name")
        for rank in ("genus", "family", "order", "class", "phylum")
    },
    "call_type": ("What call types are heard from the focal species in the audio?", "call-type"),
    "sound": ("What sound is in the audio?", "sound"),
    "transcript": ("Transcribe the speech in the audio.", "transcription"),
}
"""Fact -> (prompt, task) of the question that it answers, by priority."""
PROMPT_COLUMNS = ("prompt", "instruction_text", "instruction", "question", "query")
ANSWER_COLUMNS = ("text", "output", "answer", "response", "target")
LABEL_COLUMNS = (
    *("label", "labels", "cls", "category", "target_name", "species", "class", "class_name", "class_label"),
    *("primary_label", "ebird_code_multilabel", "ebird_code", "species_code", "event_label", "annotation", "tags"),
)
"""Columns of metadata with the label, by priority."""
UNLABELLED = "the row says nothing about what is heard"
"""Reason of a reject without label, caption, facts or question."""


def label_example(
    row: Row,
    path: str,
    label: str,
    start: float | None = None,
    end: float | None = None,
    facts: Mapping[str, str] | None = None,
    question: tuple[str, str] = QUESTIONS["common_name"],
    source: str = "unknown",
) -> Example:
    """The question about a recording, or a part of it, that a label answers.

    Columns `prompt`, `text`, `task`, `domain`, `licence`, `split` and `id` of the row have priority over the arguments.

    Args:
      row: the row of the table.
      path: name of the recording.
      label: the answer.
      start: begin of the part in seconds; None for the whole recording.
      end: end of the part in seconds.
      facts: by the names of `schema.FACTS`; None: those of the row.
      question: (prompt, task).
      source: the domain if the row has none.

    Raises:
      UserError: an invalid start or end, see `schema.span_fault`.
    """
    if start is not None and (fault := span_fault(start, end)):
        raise UserError(f"{row.where}: {fault}")
    name = path if start is None else part_name(path, start, end)
    prompt, task = question
    return Example(
        id=row.text("id", default="") or name,
        paths=(name,),
        prompt=row.text("prompt", default="") or prompt,
        text=row.text("text", default="") or label,
        task=row.text("task", default="") or task,
        domain=row.text("domain", default="") or source,
        licence=recording_facts.licence(row.text("licence", "license", default="")),
        label=label,
        split=row.text("split", default=""),
        where=row.where,
        facts=recording_facts.of_columns(row.values, taxonomic=False) if facts is None else facts,
    )


def negative_example(row: Row, path: str, start: float | None = None, end: float | None = None) -> Example:
    """The question which species are in a recording, or in a part of it, with the answer None: nothing is heard there.

    Args:
      row: the row of the table; its columns `id`, `domain`, `licence` and `split` count.
      path: name of the recording.
      start: begin of the part in seconds; None for the whole recording.
      end: end of the part in seconds.

    Raises:
      UserError: as `label_example`.
    """
    values = {key: row.values[key] for key in ("id", "domain", "licence", "license", "split") if row.values.get(key)}
    question = (windowing.PROMPT, windowing.TASK)
    return label_example(Row(values, row.where), path, NONE, start, end, facts={}, question=question)


def metadata_example(row: Row, path: str, facts: Mapping[str, str], source: str = "unknown") -> Example:
    """The question about a recording that a row of metadata answers: its own, else that of its first fact or label.

    Args:
      row: the metadata.
      path: name of the recording.
      facts: those of the row, by the names of `schema.FACTS`.
      source: the domain if the row has none.

    Raises:
      UserError: the row has no question with an answer, no fact and no label (`UNLABELLED`).
    """
    values = row.values
    prompt = next((values[k] for k in PROMPT_COLUMNS if isinstance(values.get(k), str) and values[k].strip()), "")
    answer = next((cells.text(values[k]) for k in ANSWER_COLUMNS if cells.text(values.get(k))), "")
    others = {k: v for k, v in values.items() if k not in PROMPT_COLUMNS and (k != "text" or prompt)}
    others = Row(others, row.where)
    if prompt and answer:
        return label_example(others, path, answer, facts=facts, question=(prompt, "question"), source=source)
    if not prompt:
        facts = _with_caption(facts, values.get("text"))
    fact = next((name for name in QUESTIONS if facts.get(name)), "")
    cell = facts[fact] if fact else next((values[k] for k in LABEL_COLUMNS if cells.text(values.get(k))), None)
    label = cells.text(cell) if not fact else facts[fact]
    if not label:
        raise UserError(f"{row.where}: {UNLABELLED}")
    if cells.is_silent(label):
        return negative_example(row, path)
    labels = [] if fact in ("caption", "transcript") else _labels(cell)
    text, question = ", ".join(labels) or label, QUESTIONS[fact or "common_name"]
    example = label_example(others, path, text, facts=facts, question=question, source=source)
    return dataclasses.replace(example, labels=tuple(dict.fromkeys(labels))) if len(labels) > 1 else example


def _with_caption(facts: Mapping[str, str], text: Any) -> Mapping[str, str]:
    """The facts with the column `text` as their caption, unless they have a caption or a transcript."""
    if not isinstance(text, str) or not text.strip() or {"caption", "transcript"} & set(facts):
        return facts
    return {**facts, "caption": text}


def _labels(cell: Any) -> list[str]:
    """The labels of a cell, or of each element of a list."""
    return [label for element in (cell if isinstance(cell, list) else [cell]) for label in cells.labels(element)]
