"""Metadata of xeno-canto.org: the responses of its API (versions 2 and 3, one page or a list of them) or a table of the
same fields, with the recordings below the audio root as `XC<id>...` or under their `file-name`.

    {"recordings": [{"id": "123", "gen": "Corvus", "sp": "corax", "en": "Common Raven", "type": "call, male"}]}
    example: id XC123, recording XC123 - Common Raven.mp3, answer Common Raven, facts call_type=call and sex=male
"""

import pathlib
import re
from collections.abc import Iterator, Mapping

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, Row
from nlm_jax.prepare.readers import cells, lookup, recording_facts, row_examples, row_streams, tables
from nlm_jax.prepare.rejects import Notice, Reject

REQUIRED = {"gen", "sp"}
SEXES, STAGES = {"male", "female"}, {"adult", "juvenile", "nestling", "immature", "subadult", "hatchling", "larva"}
NUMBER = re.compile(r"xc\d+")
NO_SPECIES = {"Mystery", "Sonus"}
"""Genera of unknown species, and of soundscapes."""


def opens(path: pathlib.Path) -> bool:
    """Whether a path is a file of metadata, or a folder with one in it or in its folder `metadata`."""
    return bool(_files(path))


def _files(path: pathlib.Path) -> list[pathlib.Path]:
    every = [*path.glob("*"), *path.glob("metadata/**/*")] if path.is_dir() else [path]
    return sorted(file for file in every if _fits(file))


def _fits(file: pathlib.Path) -> bool:
    names = tables.column_names(file)
    return names >= REQUIRED or (
        "recordings" in names and all(row.values.keys() >= REQUIRED for row in _rows(file) if isinstance(row, Row))
    )


def _rows(file: pathlib.Path) -> Iterator[Row | Reject | Notice]:
    """One row for each recording, also of a page."""
    for item in tables.rows(file):
        recordings = item.values.get("recordings") if isinstance(item, Row) else None
        if recordings is None:
            yield item
            continue
        if not isinstance(recordings, list) or not all(isinstance(entry, dict) for entry in recordings):
            raise UserError(f"{item.where}: recordings must be a list of objects")
        for number, entry in enumerate(recordings):
            yield Row({k.lower(): v for k, v in entry.items()}, f"{item.where}: recordings[{number}]")


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
    """One question for each recording: its species by its English name, or by its scientific one. Recordings of an
    unknown species, and soundscapes, are skipped and counted.

    Raises:
      UserError: no such metadata, a recording without id or genus, or two different ones with the same id.
    """
    files = lookup.recordings_by_name(root)
    for name, file in list(files.items()):  # as the site names them: XC123 - Common Raven - Corvus corax.mp3
        if number := NUMBER.match(name):
            files.setdefault(number[0], file)
    rows = (row for file in _files(path) or [path] for row in _rows(file))
    items = row_streams.convert_rows(
        rows, lambda row: [_example(row, files)], lambda row: _rejected_recording(row, files)
    )
    yield from row_streams.unique_examples(row_streams.without_skipped(path, items, REQUIRED))


def _example(row: Row, files: Mapping[str, str]) -> Example | None:
    """The question about a recording; None for one without a species."""
    if missing := [name for name in ("id", "gen") if not cells.text(row.values.get(name))]:
        raise UserError(f"{row.where}: no {missing[0]!r}; xeno-canto gives id, gen, sp, en, ... of every recording")
    if row.values["gen"] in NO_SPECIES:
        return None
    ident = _ident(row)
    fields = {"id": ident, "license": cells.text(row.values.get("lic")), "split": row.text("split", default="")}
    return row_examples.metadata_example(
        Row(fields, row.where), _recording(row, ident, files), _facts(row), "Xeno-canto"
    )


def _facts(row: Row) -> dict[str, str]:
    values = {name: value for name, value in row.values.items() if name not in ("id", "url")}
    also = values.get("also")
    if isinstance(also, str):  # a table writes the list as text
        also = [name.strip(" '\"") for name in also.strip("[]").split(",")]
    values |= {"also": also, "sp": cells.text(values.get("sp")).removeprefix("sp.")}
    facts = recording_facts.of_columns(values)
    facts = _voice(facts.pop("call_type", "")) | facts
    if address := cells.text(row.values.get("url", "")):
        facts["url"] = f"https:{address}" if address.startswith("//") else address
    return facts


def _voice(types: str) -> dict[str, str]:
    """The call types; in earlier versions of the API sex and life stage are among them."""
    words = [word.strip() for word in types.split(",") if word.strip()]
    facts = {
        "sex": [w for w in words if w.lower() in SEXES],
        "life_stage": [w for w in words if w.lower() in STAGES],
        "call_type": [w for w in words if w.lower() not in SEXES | STAGES | cells.EMPTY_WORDS],
    }
    return {fact: ", ".join(values) for fact, values in facts.items() if values}


def _ident(row: Row) -> str:
    return f"XC{cells.text(row.values.get('id')).upper().removeprefix('XC')}"


def _recording(row: Row, ident: str, files: Mapping[str, str]) -> str:
    """Path of the recording; if it does not exist, the name it should have."""
    name = cells.text(row.values.get("file-name"))
    return files.get(name.lower()) or files.get(ident.lower()) or name or f"{ident}.mp3"


def _rejected_recording(row: Row, files: Mapping[str, str]) -> str:
    return _recording(row, _ident(row), files) if cells.text(row.values.get("id")) else ""
