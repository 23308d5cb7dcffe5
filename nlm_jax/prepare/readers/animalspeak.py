"""Captions as AnimalSpeak has them: a table (CSV or JSON lines) with a path of the audio, one or several captions, and
the names of the species."""

import pathlib
from collections.abc import Iterator

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, Row
from nlm_jax.prepare.readers import common, hf_rows, recording_facts, tables
from nlm_jax.prepare.readers.lookup import Lookup
from nlm_jax.prepare.rejects import Notice, Reject

PATHS = ("audio_path_16khz", "audio_path", "local_path", "audio_path_32khz", "path", "file", "file_name", "filename")
SAYS = ("caption", "captions", "text", "description")
"""Columns of captions, also with something before or behind: caption2, gpt_caption, caption_scientific."""


def opens(path: pathlib.Path) -> bool:
    """A table with a path and a caption, that has no questions of its own, or a folder with some."""
    return bool(_tables(path))


def _tables(path: pathlib.Path) -> list[pathlib.Path]:
    every = sorted(path.glob("*")) if path.is_dir() else [path]
    return [file for file in every if file.name not in hf_rows.METADATA and _fits(tables.columns(file))]


def _fits(found: frozenset[str]) -> bool:
    return any(map(_is_path, found)) and any("caption" in name for name in found) and not found & {*common.ASKS, "task"}


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
    """One question for each caption of a row; for a row without any the question that its names answer.

    Raises:
      UserError: a column is missing, or no row says anything.
    """
    files, lookup = _tables(path) or [path], Lookup(root)
    found = (one for file in files for one in _examples(file, hf_rows.split_of(file, path), lookup))
    yield from common.unique(common.told_of(path, found, tables.columns(files[0])))


def _examples(path: pathlib.Path, split: str, lookup: Lookup) -> Iterator[Example | Reject | Notice]:
    yield from common.each(
        tables.rows(path), lambda row: _asked(Row({"split": split, **row.values}, row.where), path.parent, lookup)
    )


def _asked(row: Row, beside: pathlib.Path, lookup: Lookup) -> Iterator[Example]:
    file = lookup.find([_path(row)], beside)
    known = recording_facts.facts(
        row.values, sure="species_scientific" in row.values or "scientific_name" in row.values
    )
    known.pop("caption", None)
    ident = row.text("id", default="") or file
    source = row.text("source", "source_dataset", default="") or "unknown"
    said = captions(row)
    for number, caption in enumerate(said):
        values = {k: v for k, v in row.values.items() if not _says(k)}
        numbered = Row({**values, "id": ident if len(said) == 1 else f"{ident}#{number}"}, row.where)
        prompt = common.QUESTIONS["caption"]
        one = {"facts": {**known, "caption": caption}, "ask": prompt, "source": source}
        yield common.example(numbered, file, caption, **one)
    if not said:
        yield common.told(row, file, known, source)


def captions(row: Row) -> list[str]:
    """The captions of a row, each once."""
    found = []
    for name, value in row.values.items():
        if _says(name):
            found += [recording_facts.text(v) for v in (value if isinstance(value, list) else [value])]
    return list(dict.fromkeys(filter(None, found)))


def _says(name: str) -> bool:
    return name in SAYS or ("caption" in name and not name.endswith(("id", "source", "model")))


def _is_path(name: str) -> bool:
    return name in PATHS or name.startswith("audio_path")


def _path(row: Row) -> str:
    """The audio of a row: of several columns the one at 16 kHz first, and files before addresses."""
    names = sorted(filter(_is_path, row.values), key=lambda name: PATHS.index(name) if name in PATHS else len(PATHS))
    given = [value for name in names if (value := recording_facts.text(row.values[name]))]
    if not given:
        raise UserError(
            f"{row.where}: no path of the audio; name its column one of {', '.join(PATHS)}. "
            f"The columns are {', '.join(row.values)}"
        )
    return next((value for value in given if "://" not in value), given[0])
