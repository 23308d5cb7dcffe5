"""The sounds of occurrences of Darwin Core: their addresses, and the files below the audio root with their names."""

import collections
import pathlib
import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence

from nlm_jax.audio import formats
from nlm_jax.data.schema import Row
from nlm_jax.prepare.readers import cells, tables
from nlm_jax.prepare.readers.lookup import Lookup

LINKS = ("file", "file_name", "local_path", "path", "sound_url", "associatedmedia", "identifier", "accessuri")
"""Columns of occurrences with the file or address of a sound."""
MEDIA_LINKS = ("file", "file_name", "path", "identifier", "accessuri")
"""The same of a table of media, by priority."""
MEDIA_OCCURRENCES = ("coreid", "gbifid", "occurrenceid", "id")
"""Columns of a table of media with the occurrence."""
OTHER_MEDIA = ("image", "video", "text")


def links_by_occurrence(files: Sequence[pathlib.Path]) -> dict[str, list[str]]:
    """The links in tables of media.

    Args:
      files: any files; those that are not tables of media are skipped.

    Returns:
      Id of an occurrence -> paths or addresses of its sounds.
    """
    links: dict[str, list[str]] = collections.defaultdict(list)
    for file in files:
        names = tables.column_names(file)
        if not names & set(MEDIA_LINKS) or not names & set(MEDIA_OCCURRENCES):
            continue
        for row in tables.rows(file):
            if isinstance(row, Row) and (link := _sound_link(row)):
                for ident in {cells.text(row.values.get(name)) for name in MEDIA_OCCURRENCES} - {""}:
                    links[ident].append(link)
    return links


def _sound_link(row: Row) -> str:
    """The link in a row of a table of media; "" if that is not a sound."""
    kind = " ".join(cells.text(row.values.get(name)) for name in ("type", "format")).lower()
    link = next((text for name in MEDIA_LINKS if (text := cells.text(row.values.get(name)))), "")
    is_sound = "sound" in kind or "audio" in kind or _is_sound(link)
    return link if is_sound and not any(word in kind for word in OTHER_MEDIA) else ""


def recordings(row: Row, idents: Sequence[str], links: Mapping[str, Sequence[str]], lookup: Lookup) -> list[str]:
    """The recordings of an occurrence.

    Args:
      row: the occurrence.
      idents: its ids.
      links: from `links_by_occurrence`.
      lookup: finds them below the audio root.

    Returns:
      Distinct names of those that exist, by their links or by an id; if none does, the names in the links.
    """
    every = [link for ident in idents for link in links.get(ident, ())]
    every += _links_in(row)
    names = [file_name(link) if "://" in link else link for link in every]
    paths = {name: lookup.find([name], lookup.root) for name in names}
    existing = [path for name, path in paths.items() if path != name or (lookup.root / path).is_file()]
    by_ident = [(ident, lookup.find([ident], lookup.root)) for ident in idents]
    existing = existing or [path for ident, path in by_ident if path != ident]
    return list(dict.fromkeys(existing or names))


def _links_in(row: Row) -> Iterator[str]:
    for name in LINKS:
        links = re.split(r"\s*[|;]\s*|,\s+", cells.text(row.values.get(name)))
        yield from filter(_is_sound, links)


def _is_sound(link: str) -> bool:
    name = file_name(link)
    return formats.is_readable(name) or formats.is_unreadable_sound(name)


def file_name(link: str) -> str:
    """The last part of an address or path."""
    return pathlib.PurePosixPath(urllib.parse.unquote(urllib.parse.urlparse(link).path)).name
