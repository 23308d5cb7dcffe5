"""Metadata of xeno-canto.org: what its API answers (versions 2 and 3, one page or a list of them) or a table of the
same fields, with the recordings below the audio root as `XC<id>...` or under their `file-name`."""

import pathlib
import re
from collections.abc import Iterator

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, Row
from nlm_jax.prepare.readers import common, recording_facts, tables
from nlm_jax.prepare.rejects import Notice, Reject

NEEDED = {"gen", "sp"}
SEXES, STAGES = {"male", "female"}, {"adult", "juvenile", "nestling", "immature", "subadult", "hatchling", "larva"}
NUMBER = re.compile(r"xc\d+")
NO_SPECIES = {"Mystery", "Sonus"}
"""Genera of unknown species, and of soundscapes."""


def opens(path: pathlib.Path) -> bool:
    """A file of metadata, or a folder with one in it or in its folder `metadata`."""
    return bool(_files(path))


def _files(path: pathlib.Path) -> list[pathlib.Path]:
    every = [*path.glob("*"), *path.glob("metadata/**/*")] if path.is_dir() else [path]
    return sorted(file for file in every if _fits(file))


def _fits(file: pathlib.Path) -> bool:
    found = tables.columns(file)
    return found >= NEEDED or (
        "recordings" in found and all(row.values.keys() >= NEEDED for row in _rows(file) if isinstance(row, Row))
    )


def _rows(file: pathlib.Path) -> Iterator[Row | Reject | Notice]:
    """One row a recording; pages are unfolded."""
    for page in tables.rows(file):
        if not isinstance(page, Row):
            yield page
            continue
        listed = page.values.get("recordings")
        if listed is None:
            yield page
            continue
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise UserError(f"{page.where}: recordings must be a list of objects")
        for number, one in enumerate(listed):
            yield Row({k.lower(): v for k, v in one.items()}, f"{page.where}: recordings[{number}]")


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
    """One question for each recording: its species by its English name, or by its scientific one. Recordings of what
    nobody could name, and soundscapes, are passed over and counted.

    Raises:
      UserError: no such metadata, a recording without id or genus, or two different ones with the same id.
    """
    there = common.below(root)
    for name, file in list(there.items()):  # as the site names them: XC123 - Common Raven - Corvus corax.mp3
        if number := NUMBER.match(name):
            there.setdefault(number[0], file)
    rows = (row for file in _files(path) or [path] for row in _rows(file))
    yield from common.unique(
        common.told_of(
            path, common.each(rows, lambda row: [_example(row, there)], lambda row: _named(row, there)), NEEDED
        )
    )


def _example(row: Row, there: dict[str, str]) -> Example | None:
    if missing := [name for name in ("id", "gen") if not recording_facts.text(row.values.get(name))]:
        raise UserError(f"{row.where}: no {missing[0]!r}; xeno-canto gives id, gen, sp, en, ... of every recording")
    if row.values["gen"] in NO_SPECIES:
        return None
    values = dict(row.values)
    ident = f"XC{recording_facts.text(values.pop('id')).upper().removeprefix('XC')}"
    address = recording_facts.text(values.pop("url", ""))
    also = values.get("also")
    if isinstance(also, str):  # a table writes the list as text
        also = [name.strip(" '\"") for name in also.strip("[]").split(",")]
    values |= {"also": also, "sp": recording_facts.text(values.get("sp")).removeprefix("sp.")}
    known = recording_facts.facts(values)
    known = _voice(known.pop("call_type", "")) | known
    if address:
        known["url"] = f"https:{address}" if address.startswith("//") else address
    fields = {"id": ident, "license": recording_facts.text(values.get("lic")), "split": row.text("split", default="")}
    return common.told(Row(fields, row.where), _audio(row, ident, there), known, "Xeno-canto")


def _named(row: Row, there: dict[str, str]) -> str:
    ident = recording_facts.text(row.values.get("id"))
    return _audio(row, f"XC{ident.upper().removeprefix('XC')}", there) if ident else ""


def _voice(kinds: str) -> dict[str, str]:
    """Call types; earlier versions list sex and life stage among them."""
    words = [word.strip() for word in kinds.split(",") if word.strip()]
    sorted_ = {
        "sex": [w for w in words if w.lower() in SEXES],
        "life_stage": [w for w in words if w.lower() in STAGES],
        "call_type": [w for w in words if w.lower() not in SEXES | STAGES | recording_facts.NOTHING],
    }
    return {fact: ", ".join(found) for fact, found in sorted_.items() if found}


def _audio(row: Row, ident: str, there: dict[str, str]) -> str:
    """Path of the recording; where it is not there, the name it should have."""
    name = recording_facts.text(row.values.get("file-name"))
    return there.get(name.lower()) or there.get(ident.lower()) or name or f"{ident}.mp3"
