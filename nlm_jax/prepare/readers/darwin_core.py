"""Darwin Core, as GBIF and museums publish it, and the tables of iNaturalist: a table of occurrences with links to
their sounds in it, or a folder (an unpacked archive) with a table of media next to it. The sounds themselves are below
the audio root, under the last part of their address, or as `<id of the occurrence>.<suffix>`.

    occurrence.txt: occurrenceID=7, scientificName=Strix aluco      multimedia.txt: coreid=7, identifier=http://x/a.mp3
    example: id 7, recording a.mp3, with the facts scientific_name, species and genus
"""

import pathlib
from collections.abc import Collection, Iterator, Sequence

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import RANKS, Example, Row
from nlm_jax.prepare.readers import cells, media, recording_facts, row_examples, row_streams, tables
from nlm_jax.prepare.readers.lookup import Lookup
from nlm_jax.prepare.rejects import Notice, Reject

IDS = ("occurrenceid", "gbifid", "id", "catalognumber", "observation_uuid")
NAMES = {"scientificname", "scientific_name", "genus", "species"}
TERMS = {"basisofrecord", "occurrenceid", "gbifid", "associatedmedia", "sound_url", "taxonrank", "vernacularname"}
"""Columns that only tables of occurrences have."""
LICENCES = ("license", "licence", "rights", "accessrights")


def opens(path: pathlib.Path) -> bool:
    """Whether a path is a table of occurrences, or a folder with some."""
    return bool(_occurrence_tables(path))


def _occurrence_tables(path: pathlib.Path) -> list[pathlib.Path]:
    """The tables with the columns of the first: an archive has its occurrences a second time, verbatim, with others."""
    files = sorted(path.glob("*")) if path.is_dir() else [path]
    fitting = [file for file in files if _fits(tables.column_names(file))]
    return [file for file in fitting if tables.column_names(file) == tables.column_names(fitting[0])]


def _fits(columns: Collection[str]) -> bool:
    names = set(columns)
    return bool(names & NAMES and names & TERMS) and not {"gen", "sp"} <= names


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
    """One question for each sound of an occurrence: its species, or the lowest rank that is known.

    Raises:
      UserError: no table of occurrences, no link to a sound in it, or an id that two different ones have.
    """
    files = _occurrence_tables(path)
    if not files:
        raise UserError(f"{path}: no occurrences; they have scientificName and one of {', '.join(sorted(TERMS))}")
    items = row_streams.without_skipped(path, _items(path, files, root), tables.column_names(files[0]))
    yield from row_streams.unique_examples(items)


def _items(
    path: pathlib.Path, files: Sequence[pathlib.Path], root: pathlib.Path
) -> Iterator[Example | Reject | Notice]:
    others = [file for file in sorted(files[0].parent.glob("*")) if not _fits(tables.column_names(file))]
    lookup, links = Lookup(root), media.links_by_occurrence(others)
    sounds = silent = 0

    def convert(row: Row) -> Iterator[Example]:
        nonlocal sounds, silent
        idents = [ident for name in IDS if (ident := cells.text(row.values.get(name)))]
        recordings = media.recordings(row, idents, links, lookup)
        sounds += len(recordings)
        silent += not recordings
        for number, recording in enumerate(recordings):
            ident = idents[0] if idents else recording
            yield _example(row, recording, f"{ident}#{number}" if len(recordings) > 1 else ident)

    yield from row_streams.convert_rows((row for file in files for row in tables.rows(file)), convert)
    if silent and not sounds:
        raise UserError(
            f"{path}: no occurrence has a sound; give its file in a column {', '.join(media.LINKS)}, in multimedia.csv"
            f" next to it, or name recordings by the id of their occurrence"
        )
    if silent:
        yield Notice(f"{path}: {silent} occurrences have no sound and are left out")


def _example(row: Row, recording: str, ident: str) -> Example:
    values = {k: v for k, v in row.values.items() if k not in ("type", "identifier", "id", *media.LINKS)}
    fields = {
        "id": ident,
        "license": next((text for name in LICENCES if (text := cells.text(values.get(name)))), ""),
        "split": cells.text(values.get("split")),
    }
    is_inaturalist = "user_login" in values or "inaturalist" in str(values).lower()
    source = "iNaturalist" if is_inaturalist else "Darwin Core"
    return row_examples.metadata_example(Row(fields, row.where), recording, _facts(values), source)


def _facts(values: dict[str, object]) -> dict[str, str]:
    """The facts of an occurrence: those of its columns, the rank that it is determined to, and its coordinates."""
    facts = recording_facts.of_columns(values)
    rank, name = cells.text(values.get("taxonrank")).lower(), cells.text(values.get("scientificname"))
    if rank in RANKS and name and "scientific_name" not in facts:
        facts.setdefault(rank, name.split()[0])
    columns = ("decimallatitude", "latitude", "decimallongitude", "longitude")
    coordinates = [text for column in columns if (text := cells.text(values.get(column)))]
    if "place" not in facts and len(coordinates) == 2:
        facts["place"] = ", ".join(coordinates)
    return facts
