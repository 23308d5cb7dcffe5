"""Captions in the columns of AnimalSpeak: a table (CSV or JSON lines) with the path of the audio, one or several
captions, and the names of the species.

    audio_path, caption, caption2, species_common    two examples, with the facts common_name and caption
"""

import pathlib
from collections.abc import Collection, Iterator

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, Row
from nlm_jax.prepare.readers import cells, hf_rows, recording_facts, row_examples, row_streams, tables
from nlm_jax.prepare.readers.lookup import Lookup
from nlm_jax.prepare.rejects import Notice, Reject

PATHS = ("audio_path_16khz", "audio_path", "local_path", "audio_path_32khz", "path", "file", "file_name", "filename")
"""Columns with the path of the audio, by priority."""
CAPTIONS = ("caption", "captions", "text", "description")
"""Columns of captions; also with something before or after `caption`: caption2, gpt_caption, caption_scientific."""


def opens(path: pathlib.Path) -> bool:
    """Whether a path is a table with a path and a caption, without questions of its own, or a folder with some."""
    return bool(_tables(path))


def _tables(path: pathlib.Path) -> list[pathlib.Path]:
    files = sorted(path.glob("*")) if path.is_dir() else [path]
    return [file for file in files if file.name not in hf_rows.METADATA and _fits(tables.column_names(file))]


def _fits(names: Collection[str]) -> bool:
    has_path, has_caption = any(map(_is_path, names)), any("caption" in name for name in names)
    return has_path and has_caption and not {*row_examples.PROMPT_COLUMNS, "task"} & set(names)


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
    """One question for each caption of a row; for a row without captions the question that its names answer.

    Raises:
      UserError: a column is missing, or no row has a label.
    """
    files, lookup = _tables(path) or [path], Lookup(root)
    items = (item for file in files for item in _of_table(file, hf_rows.split_of(file, path), lookup))
    yield from row_streams.unique_examples(row_streams.without_skipped(path, items, tables.column_names(files[0])))


def _of_table(file: pathlib.Path, split: str, lookup: Lookup) -> Iterator[Example | Reject | Notice]:
    def convert(row: Row) -> Iterator[Example]:
        return _of_row(Row({"split": split, **row.values}, row.where), file.parent, lookup)

    yield from row_streams.convert_rows(tables.rows(file), convert)


def _of_row(row: Row, folder: pathlib.Path, lookup: Lookup) -> Iterator[Example]:
    recording = lookup.find([_path(row)], folder)
    has_scientific = "species_scientific" in row.values or "scientific_name" in row.values
    facts = recording_facts.of_columns(row.values, taxonomic=has_scientific)
    facts.pop("caption", None)
    ident = row.text("id", default="") or recording
    source = row.text("source", "source_dataset", default="") or "unknown"
    texts = captions(row)
    for number, caption in enumerate(texts):
        values = {name: value for name, value in row.values.items() if not _is_caption(name)}
        values["id"] = ident if len(texts) == 1 else f"{ident}#{number}"
        yield row_examples.label_example(
            Row(values, row.where),
            recording,
            caption,
            facts={**facts, "caption": caption},
            question=row_examples.QUESTIONS["caption"],
            source=source,
        )
    if not texts:
        yield row_examples.metadata_example(row, recording, facts, source)


def captions(row: Row) -> list[str]:
    """The distinct captions of a row."""
    texts = []
    for name, value in row.values.items():
        if _is_caption(name):
            texts += [cells.text(element) for element in (value if isinstance(value, list) else [value])]
    return list(dict.fromkeys(filter(None, texts)))


def _is_caption(name: str) -> bool:
    return name in CAPTIONS or ("caption" in name and not name.endswith(("id", "source", "model")))


def _is_path(name: str) -> bool:
    return name in PATHS or name.startswith("audio_path")


def _path(row: Row) -> str:
    """The audio of a row: of several columns the one at 16 kHz first, and files before addresses."""
    names = sorted(filter(_is_path, row.values), key=lambda name: PATHS.index(name) if name in PATHS else len(PATHS))
    paths = [path for name in names if (path := cells.text(row.values[name]))]
    if not paths:
        raise UserError(
            f"{row.where}: no path of the audio; name its column one of {', '.join(PATHS)}. "
            f"The columns are {', '.join(row.values)}"
        )
    return next((path for path in paths if "://" not in path), paths[0])
