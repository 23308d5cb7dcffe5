"""Darwin Core, as GBIF and museums publish it, and the tables of iNaturalist: a table of occurrences with links to
their sounds in it, or a folder (an unpacked archive) with a table of media beside it. The sounds themselves are below
the audio root, under the last part of their address, or as `<id of the occurrence>.<suffix>`."""

import pathlib
from collections.abc import Iterator

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import RANKS, Example, Row
from nlm_jax.prepare.readers import common, media, recording_facts, tables
from nlm_jax.prepare.readers.lookup import Lookup
from nlm_jax.prepare.rejects import Notice, Reject

IDS = ("occurrenceid", "gbifid", "id", "catalognumber", "observation_uuid")
MARKS = {"basisofrecord", "occurrenceid", "gbifid", "associatedmedia", "sound_url", "taxonrank", "vernacularname"}
LICENCES = ("license", "licence", "rights", "accessrights")


def opens(path: pathlib.Path) -> bool:
    """A table of occurrences, or a folder with some."""
    return bool(_occurrences(path))


def _occurrences(path: pathlib.Path) -> list[pathlib.Path]:
    """Tables of one kind: an archive has its occurrences a second time, verbatim, with other columns."""
    every = sorted(path.glob("*")) if path.is_dir() else [path]
    fitting = [file for file in every if _fits(tables.columns(file))]
    return [file for file in fitting if tables.columns(file) == tables.columns(fitting[0])]


def _fits(columns: frozenset[str]) -> bool:
    named = columns & {"scientificname", "scientific_name", "genus", "species"}
    return bool(named and columns & MARKS) and not {"gen", "sp"} <= columns


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
    """One question for each sound of an occurrence: its species, or the lowest rank that is known.

    Raises:
      UserError: no table of occurrences, no link to a sound in it, or an id that two different ones have.
    """
    files = _occurrences(path)
    if not files:
        raise UserError(f"{path}: no occurrences; they have scientificName and one of {', '.join(sorted(MARKS))}")
    yield from common.unique(common.told_of(path, _examples(path, files, root), tables.columns(files[0])))


def _examples(path: pathlib.Path, files: list[pathlib.Path], root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
    beside = [file for file in sorted(files[0].parent.glob("*")) if not _fits(tables.columns(file))]
    lookup, links = Lookup(root), media.listed(beside)
    heard = mute = 0

    def made(row: Row) -> Iterator[Example]:
        nonlocal heard, mute
        idents = [ident for name in IDS if (ident := recording_facts.text(row.values.get(name)))]
        sounds = media.files(row, idents, links, lookup)
        mute, heard = mute + (not sounds), heard + len(sounds)
        for number, file in enumerate(sounds):
            yield _example(row, file, idents[0] if idents else file, f"#{number}" if len(sounds) > 1 else "")

    yield from common.each((row for file in files for row in tables.rows(file)), made)
    if mute and not heard:
        raise UserError(
            f"{path}: no occurrence has a sound; give its file in a column {', '.join(media.LINKS)}, in multimedia.csv"
            f" beside it, or name recordings by the id of their occurrence"
        )
    if mute:
        yield Notice(f"{path}: {mute} occurrences have no sound and are left out")


def _example(row: Row, file: str, ident: str, number: str) -> Example:
    values = {k: v for k, v in row.values.items() if k not in ("type", "identifier", "id", *media.LINKS)}
    known = recording_facts.facts(values)
    rank, name = (
        recording_facts.text(values.get("taxonrank")).lower(),
        recording_facts.text(values.get("scientificname")),
    )
    if rank in RANKS and name and "scientific_name" not in known:
        known.setdefault(rank, name.split()[0])
    where = [
        recording_facts.text(values.get(f"{at}{axis}")) for axis in ("latitude", "longitude") for at in ("decimal", "")
    ]
    if "place" not in known and len(given := list(filter(None, where))) == 2:
        known["place"] = ", ".join(given)
    fields = {
        "id": ident + number,
        "license": next((said for name in LICENCES if (said := recording_facts.text(values.get(name)))), ""),
        "split": recording_facts.text(values.get("split")),
    }
    source = "iNaturalist" if "user_login" in values or "inaturalist" in str(values).lower() else "Darwin Core"
    return common.told(Row(fields, row.where), file, known, source)
