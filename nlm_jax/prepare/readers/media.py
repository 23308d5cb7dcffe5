"""The sounds of Darwin Core's occurrences: their addresses, and the files below the audio root that these became."""

import collections
import pathlib
import re
import urllib.parse
from collections.abc import Sequence

from nlm_jax.audio import formats
from nlm_jax.data.schema import Row
from nlm_jax.prepare.readers import recording_facts, tables
from nlm_jax.prepare.readers.lookup import Lookup

LINKS = ("file", "file_name", "local_path", "path", "sound_url", "associatedmedia", "identifier", "accessuri")
"""Columns with the file or address of a sound: of occurrences, and (`MEDIA`) of the table of media beside them."""
MEDIA = ("file", "file_name", "path", "identifier", "accessuri")
OF = ("coreid", "gbifid", "occurrenceid", "id")
"""Columns of that table which name the occurrence."""
SOUND = (*formats.READABLE, *formats.UNREADABLE_SOUND)
OTHER = ("image", "video", "text")


def listed(tables_: Sequence[pathlib.Path]) -> dict[str, list[str]]:
    """Id of an occurrence -> addresses of its sounds, from tables of media."""
    found = collections.defaultdict(list)
    for file in tables_:
        columns = tables.columns(file)
        if not columns & set(MEDIA) or not columns & set(OF):
            continue
        for row in tables.rows(file):
            if not isinstance(row, Row):
                continue
            kind = " ".join(recording_facts.text(row.values.get(name)) for name in ("type", "format")).lower()
            link = next((text for name in MEDIA if (text := recording_facts.text(row.values.get(name)))), "")
            sound = "sound" in kind or "audio" in kind or file_name(link).lower().endswith(SOUND)
            if link and sound and not any(word in kind for word in OTHER):
                for ident in {recording_facts.text(row.values.get(name)) for name in OF} - {""}:
                    found[ident].append(link)
    return found


def files(row: Row, idents: Sequence[str], media: dict[str, list[str]], lookup: Lookup) -> list[str]:
    """Paths of the sounds of an occurrence, without repeats: those that are there, else what they should be called."""
    links = [link for ident in idents for link in media.get(ident, ())]
    for name in LINKS:
        every = re.split(r"\s*[|;]\s*|,\s+", recording_facts.text(row.values.get(name)))
        links += [link for link in every if file_name(link).lower().endswith(SOUND)]
    names = [file_name(link) if "://" in link else link for link in links]
    found = {name: lookup.find([name], lookup.root) for name in names}
    present = [path for name, path in found.items() if path != name or (lookup.root / path).is_file()]
    own = [lookup.find([ident], lookup.root) for ident in idents]
    present = present or [path for ident, path in zip(idents, own, strict=True) if path != ident]
    return list(dict.fromkeys(present or names))


def file_name(link: str) -> str:
    """The last part of an address or path."""
    return pathlib.PurePosixPath(urllib.parse.unquote(urllib.parse.urlparse(link).path)).name
