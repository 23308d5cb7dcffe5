"""The roles of the columns of a label table, whatever program or person named them: recording, label, start, end.

Examples:
    header of the table                                layout
    Begin File, Begin Time (s), End Time (s), Species  file=Begin File, label=Species, start=..., end=...
    filename, category                                 file=filename, label=category
    onset, offset, label                               label=label, start=onset, end=offset
    IN FILE, OFFSET, DURATION, MANUAL ID               file=IN FILE, label=MANUAL ID, start=OFFSET, duration=DURATION
"""

import functools
from collections.abc import Collection, Mapping
from typing import NamedTuple

from nlm_jax.prepare.readers import cells, time_columns

FILE = (
    *("file", "file_name", "filename", "path", "file_path", "filepath", "relative_path", "fname", "audio"),
    *("audio_path", "audio_filepath", "audio_file", "audio_file_name", "audio_filename", "sound_file", "soundfile"),
    *("sound_path", "wav", "wav_file", "wav_path", "wavfile", "wav_filename", "recording", "recording_file"),
    *("recording_name", "recording_path", "media_file", "notated_path", "in_file", "begin_path", "begin_file"),
    *("datei", "dateiname", "fichier", "nom_fichier", "nom_du_fichier", "nom_de_fichier", "archivo", "nombre_archivo"),
    *("nombre_de_archivo", "arquivo", "nome_arquivo", "nome_file", "bestand", "bestandsnaam", "fil", "filnamn"),
)
"""Names of columns with the recording, by priority."""
LABEL = (
    *("label", "labels", "common_name", "species", "species_common", "species_name", "class", "class_name"),
    *("class_label", "category", "annotation", "annotations", "event_label", "target_name", "taxon", "taxon_name"),
    *("manual_id", "tags", "tag", "sound_type", "call_type", "scientific_name", "species_scientific", "auto_id"),
    *("top1match", "species_code", "ebird_code_multilabel", "ebird_code", "primary_label", "spp"),
    *("art", "artname", "espece", "nom_espece", "especie", "nombre_especie", "specie", "soort", "soortnaam", "text"),
)
"""Names of columns with the label, by priority. Blanks and signs between words do not matter: `commonName` and
`Common Name` are one column."""


class Layout(NamedTuple):
    """The columns of a table by their roles; "" if no column has the role."""

    file: str
    label: str
    start: str
    end: str
    duration: str
    unused: tuple[str, ...]
    """Columns that look like times and have no role."""

    @property
    def timed(self) -> bool:
        """Whether rows are about parts of recordings."""
        return bool(self.start and (self.end or self.duration))

    @property
    def times(self) -> tuple[str, str, str]:
        """The columns of start, end and duration."""
        return self.start, self.end, self.duration


def layout(names: Collection[str]) -> Layout:
    """The layout of a table.

    Args:
      names: the columns in lower case, as `tables.header` gives them.
    """
    return _layout(tuple(names))


@functools.lru_cache(1024)
def _layout(names: tuple[str, ...]) -> Layout:
    keys: dict[str, str] = {}
    for name in names:
        keys.setdefault(cells.column_key(name), name)
    file, label = (next(iter(matching(names, accepted)), "") for accepted in (FILE, LABEL))
    start, end, duration = _times(keys)
    unused = [
        name for name in keys.values() if time_columns.looks_like_time(name) and name not in (start, end, duration)
    ]
    if start and (end or duration):
        unused = [name for name in unused if not time_columns.counts_units(name)]
    return Layout(file, label, start, end, duration, tuple(unused))


def _times(keys: Mapping[str, str]) -> tuple[str, str, str]:
    """The columns of start, end and duration among columns by their keys."""
    roles = (time_columns.START, time_columns.END, time_columns.DURATION, time_columns.OFFSET)
    start, end, duration, offset = (time_columns.find(keys, words) for words in roles)
    if not start and end and end == keys.get("t1") and "t2" in keys:  # t1, t2
        start, end = end, keys["t2"]
    elif start and not end:  # onset, offset
        end = offset
    elif not start and duration:  # offset, duration
        start = offset
    return start, end, duration


def matching(names: Collection[str], accepted: Collection[str]) -> list[str]:
    """The columns that have one of the accepted names, in the order of these; `commonName` matches `common_name`."""
    by_key: dict[str, str] = {}
    for name in names:
        by_key.setdefault(_joined(cells.column_key(name)), name)
    return list(dict.fromkeys(by_key[key] for key in map(_joined, accepted) if key in by_key))


def _joined(key: str) -> str:
    return key.replace("_", "")
