"""`EarthSpeciesProject/NatureLM-audio-training`, and datasets with its columns, such as BEANS-Zero: Parquet files, a
folder that `save_to_disk` wrote, or recordings with their metadata. A hub id is downloaded first (`subset.fetch`)."""

import json
import logging
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, Row
from nlm_jax.data.text import CLIP_MARK
from nlm_jax.prepare.readers import cells, hf_rows, naturelm_index, recording_facts, tables
from nlm_jax.prepare.rejects import Notice, Reject

log = logging.getLogger(__name__)
NO_FACTS = ("source", "sample_rate", "duration", "data_category")
"""Keys of `metadata` that are not facts about a recording."""


def dataset_folder(path: pathlib.Path) -> pathlib.Path:
    """The dataset: the folder of its index if that is given."""
    is_index = path.name == naturelm_index.NAME and "shard_id" in tables.column_names(path)
    return path.parent if is_index else path


def opens(path: pathlib.Path) -> bool:
    """Whether a path is a dataset whose rows have an instruction, an output and a task."""
    names = hf_rows.column_names(dataset_folder(path))
    return {"output", "task"} <= names and bool(names & {"instruction", "instruction_text"})


def examples(
    path: pathlib.Path,
    root: pathlib.Path,
    keep_file: Callable[[pathlib.Path], bool] = lambda file: True,
    keep_id: Callable[[str], bool] = lambda ident: True,
) -> Iterator[Example | Reject | Notice]:
    """The example of every row.

    A row without a column that it needs, or with metadata that is not JSON, is a reject.

    Args:
      path: the dataset, or its index.
      root: folder of relative audio paths.
      keep_file: whether a file is read.
      keep_id: whether a row with an id is read.

    Raises:
      UserError: not a dataset, a damaged file, or no column with audio.
    """
    folder = dataset_folder(path)
    if not hf_rows.files(folder):
        raise UserError(f"{path}: neither Parquet files, nor a folder of save_to_disk, nor recordings with metadata")

    def convert(row: Row, recordings: tuple[str, ...]) -> Example | None:
        ident = row.text("id", default="") or recordings[0]
        return _example(row, recordings, ident) if keep_id(ident) else None

    seen: set[int] = set()
    repeated = 0
    for item in hf_rows.convert_rows(hf_rows.rows(folder, root, keep_file), convert):
        if isinstance(item, Example):
            key = hash((item.id, item.prompt))
            repeated += key in seen
            seen.add(key)
        if item is not None:
            yield item
    if repeated:
        log.warning("%s: %d questions are there again under the same id; each counts", path, repeated)


def _example(row: Row, recordings: tuple[str, ...], ident: str) -> Example:
    metadata = parse_metadata(row)
    prompt, text, task = _prompt(row), row.text("output"), row.text("task", empty=False)
    facts = recording_facts.of_columns({k: v for k, v in metadata.items() if k not in NO_FACTS})
    if caption := cells.text(metadata.get("text")):
        facts["caption"] = caption
    return Example(
        id=ident,
        paths=recordings,
        prompt=prompt,
        text=text,
        task=task,
        domain=row.text("source_dataset", default="") or cells.text(metadata.get("source")) or "unknown",
        licence=recording_facts.licence(row.text("license", default="")),
        label="" if "caption" in task or "qa" in task.split("-") else text,
        split=row.text("split", default=""),
        where=row.where,
        facts=facts,
    )


def _prompt(row: Row) -> str:
    """The question of a row: `instruction_text`, or `instruction` if its clip is elsewhere than in front."""
    bare, with_clip = row.text("instruction_text", default=""), row.text("instruction", default="")
    if not bare and not with_clip.strip():
        raise UserError(
            f"{row.where}: neither instruction_text nor instruction; the columns are {', '.join(row.values)}"
        )
    differs = with_clip and with_clip.removeprefix(CLIP_MARK).strip() != bare.strip()
    return with_clip if differs or not bare else bare


def parse_metadata(row: Row) -> dict[str, Any]:
    """The column `metadata`, an object or JSON text.

    Raises:
      UserError: it is neither.
    """
    metadata = row.values.get("metadata") or {}
    try:
        metadata = json.loads(metadata) if isinstance(metadata, str) else metadata
    except json.JSONDecodeError as error:
        name = row.values.get("id", "")
        raise UserError(
            f"{row.where}: metadata of {name!r} is not valid JSON ({error.msg} at column {error.colno})"
        ) from None
    if not isinstance(metadata, dict):
        raise UserError(f"{row.where}: metadata must be a JSON object, is {json.dumps(metadata)[:40]}")
    return metadata
