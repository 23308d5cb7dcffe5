"""`EarthSpeciesProject/NatureLM-audio-training`, and what has its columns, such as BEANS-Zero: Parquet files, a folder
that `save_to_disk` wrote, or recordings with their metadata. A hub id is fetched first (`select.located`)."""

import json
import logging
import pathlib
from collections.abc import Callable, Iterator

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, Row
from nlm_jax.data.text import CLIP_MARK
from nlm_jax.prepare.readers import hf_rows, recording_facts, tables
from nlm_jax.prepare.rejects import Notice, Reject

log = logging.getLogger(__name__)
INDEX = "annotations.jsonl"
"""Says of every id its shard and its taxonomy, see `select`."""
NEVER = ("source", "sample_rate", "duration", "data_category")


def folder(path: pathlib.Path) -> pathlib.Path:
    """The dataset, where its index is named instead."""
    return path.parent if path.name == INDEX and "shard_id" in tables.columns(path) else path


def opens(path: pathlib.Path) -> bool:
    """A dataset whose rows have an instruction, an output and a task."""
    found = hf_rows.columns(folder(path))
    return {"output", "task"} <= found and bool(found & {"instruction", "instruction_text"})


def examples(
    path: pathlib.Path,
    root: pathlib.Path,
    keep: Callable[[pathlib.Path], bool] = lambda file: True,
    wanted: Callable[[str], bool] = lambda ident: True,
) -> Iterator[Example | Reject | Notice]:
    """The example of every row, of files that are kept and ids that are wanted.

    A row without a column that it needs, or with metadata that is no JSON, is a reject.

    Raises:
      UserError: no dataset there, a damaged file, or no column with audio.
    """
    if not hf_rows.files(folder(path)):
        raise UserError(f"{path}: neither Parquet files, nor a folder of save_to_disk, nor recordings with metadata")
    seen, again = set(), 0

    def made(row: Row, names: tuple[str, ...]) -> Example | None:
        ident = row.text("id", default="") or names[0]
        return _example(row, names, ident) if wanted(ident) else None

    for one in hf_rows.each(hf_rows.rows(folder(path), root, keep), made):
        if isinstance(one, Example):
            again += (key := hash((one.id, one.prompt))) in seen
            seen.add(key)
        if one is not None:
            yield one
    if again:
        log.warning("%s: %d questions are there again under the same id; each counts", path, again)


def _example(row: Row, names: tuple[str, ...], ident: str) -> Example:
    said = details(row)
    asked, whole = row.text("instruction_text", default=""), row.text("instruction", default="")
    if not asked and not whole.strip():
        raise UserError(
            f"{row.where}: neither instruction_text nor instruction; the columns are {', '.join(row.values)}"
        )
    if not asked or (whole and whole.removeprefix(CLIP_MARK).strip() != asked.strip()):
        asked = whole  # its recording stands elsewhere than in front
    text, task = row.text("output"), row.text("task", empty=False)
    known = recording_facts.facts({k: v for k, v in said.items() if k not in NEVER})
    return Example(
        id=ident,
        paths=names,
        prompt=asked,
        text=text,
        task=task,
        domain=row.text("source_dataset", default="") or recording_facts.text(said.get("source")) or "unknown",
        licence=recording_facts.licence(row.text("license", default="")),
        label="" if "caption" in task or "qa" in task.split("-") else text,
        split=row.text("split", default=""),
        where=row.where,
        facts={
            **known,
            **({"caption": recording_facts.text(said["text"])} if recording_facts.text(said.get("text")) else {}),
        },
    )


def details(row: Row) -> dict:
    """The column `metadata`, which is an object or JSON text.

    Raises:
      UserError: it is neither.
    """
    said = row.values.get("metadata") or {}
    try:
        said = json.loads(said) if isinstance(said, str) else said
    except json.JSONDecodeError as error:
        name = row.values.get("id", "")
        raise UserError(f"{row.where}: metadata of {name!r} is no JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(said, dict):
        raise UserError(f"{row.where}: metadata must be a JSON object, is {json.dumps(said)[:40]}")
    return said
