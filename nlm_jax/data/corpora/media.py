"""The sounds of Darwin Core's occurrences: their addresses, and the files below the audio root that these became."""

import collections
import pathlib
import re
import urllib.parse
from collections.abc import Sequence

from nlm_jax.data.corpora import labels, metadata, tables
from nlm_jax.data.schema import Row

LINKS = ("file", "file_name", "local_path", "path", "sound_url", "associatedmedia", "identifier", "accessuri")
"""Columns with the file or address of a sound: of occurrences, and (`MEDIA`) of the table of media beside them."""
MEDIA = ("file", "file_name", "path", "identifier", "accessuri")
OF = ("coreid", "gbifid", "occurrenceid", "id")
"""Columns of that table which name the occurrence."""
SOUND = (*labels.AUDIO, ".m4a", ".aac", ".aif", ".aiff", ".wma", ".opus", ".3gp")
OTHER = ("image", "video", "text")


def listed(tables_: Sequence[pathlib.Path]) -> dict[str, list[str]]:
    """Id of an occurrence -> addresses of its sounds, from tables of media."""
    found = collections.defaultdict(list)
    for file in tables_:
        columns = tables.columns(file)
        if not columns & set(MEDIA) or not columns & set(OF):
            continue
        for row in tables.rows(file):
            kind = f"{metadata.text(row.values.get('type'))} {metadata.text(row.values.get('format'))}".lower()
            link = next((text for name in MEDIA if (text := metadata.text(row.values.get(name)))), "")
            sound = "sound" in kind or "audio" in kind or file_name(link).lower().endswith(SOUND)
            if link and sound and not any(word in kind for word in OTHER):
                for ident in {metadata.text(row.values.get(name)) for name in OF} - {""}:
                    found[ident].append(link)
    return found


def files(row: Row, idents: Sequence[str], media: dict[str, list[str]], there: dict[str, str]) -> list[str]:
    """Paths of the sounds of an occurrence, without repeats: those that are there, else what they should be called."""
    links = [link for ident in idents for link in media.get(ident, ())]
    for name in LINKS:
        every = re.split(r"\s*[|;]\s*|,\s+", metadata.text(row.values.get(name)))
        links += [link for link in every if file_name(link).lower().endswith(SOUND)]
    names = [file_name(link).lower() for link in links]
    found = [there.get(name) or there.get(name.rpartition(".")[0]) for name in names]
    own = [there.get(ident.lower()) for ident in idents]
    present = list(filter(None, found)) or list(filter(None, own))
    return list(dict.fromkeys(present or (file_name(link) if "://" in link else link for link in links)))


def file_name(link: str) -> str:
    """The last part of an address or path."""
    return pathlib.PurePosixPath(urllib.parse.unquote(urllib.parse.urlparse(link).path)).name
