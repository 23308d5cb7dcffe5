"""Chooses the reader of annotations if --format does not.

Examples:
    path                                          format
    a folder with labels.csv                      folder, whatever else is in it
    a folder with tracks for most recordings      audacity
    a folder with owl/1.wav, wren/2.wav           folder: a folder for each class
    the same, and one track                       an error: say with --format which is meant
    a file                                        that of the last reader that opens it
"""

import pathlib
from collections.abc import Mapping

from nlm_jax.audio import formats
from nlm_jax.core.errors import UserError
from nlm_jax.prepare import audio_sources
from nlm_jax.prepare.readers import columns, folder, label_files, lookup, read_report, tables, textfile
from nlm_jax.prepare.readers.protocol import FileReader
from nlm_jax.prepare.readers.read_report import ADVICE, LABEL_READERS, TITLES

MIN_LABELLED = 0.5
"""Share of the recordings in sub-folders that labels next to them must be about, to be read in place of the folders."""
GENERIC = {
    *lookup.AUDIO_FOLDERS,
    *("audio_files", "audiofiles", "audio_data", "files", "flac", "mp3", "raw", "samples", "sound", "soundscapes"),
    *("recording", "record", "records", "audios", "train_soundscapes", "test_soundscapes", "test_audio"),
}
"""Names of sub-folders that are not classes."""
REQUIREMENTS = (
    "Labels need a column with the recording (such as file, filename or path) and one with the label (such as label, "
    "species or common_name), or start and end next to a recording of the table's name; captions a column caption; "
    "xeno-canto gen and sp; Darwin Core scientificName and occurrenceID"
)


def of_folder(path: pathlib.Path, root: pathlib.Path, readers: Mapping[str, FileReader]) -> str:
    """The format of a folder.

    Args:
      path: the folder.
      root: folder of relative audio paths.
      readers: format -> reader, from general to particular.

    Raises:
      UserError: two formats fit and neither covers the other, or the only label would be a name such as "audio".
    """
    if (path / label_files.NAME).is_file():
        return "folder"
    fitting = [name for name in reversed(readers) if name not in ("folder", "inaturalist")]
    fitting = [name for name in fitting if readers[name].opens(path)]
    corpora = [name for name in fitting if name not in LABEL_READERS]
    labels = [name for name in fitting if name in LABEL_READERS and not (name == "table" and corpora)]
    if len(labels) + bool(corpora) > 1:
        raise _ambiguous(path, [*labels, *corpora[:1]])
    if corpora:
        return corpora[0]
    if labels:
        _check_share(path, root, labels[0], readers[labels[0]])
        return labels[0]
    _check_classes(path)
    return "folder"


def _check_share(path: pathlib.Path, root: pathlib.Path, name: str, reader: FileReader) -> None:
    """Raises UserError if labels are about few of the recordings in sub-folders, whose names may be the labels."""
    below = {audio_sources.name_of(p, root) for p in formats.Folder.of(path).recordings if p.parent != path}
    if not below:
        return
    labelled = {r for item in reader.examples(path, root) for r in read_report.recordings_of(item)} & below
    if len(labelled) / len(below) < MIN_LABELLED:
        raise _ambiguous(path, [name, "folder"], f"; {len(labelled)} of {len(below)} recordings in ")


def _check_classes(path: pathlib.Path) -> None:
    """Raises UserError if the names of sub-folders would be the labels, and are hardly meant to be."""
    inside = [file.relative_to(path).parts for file in formats.Folder.of(path).recordings]
    names = sorted({parts[0] for parts in inside if len(parts) > 1})
    unread = read_report.unread_files(path, [])
    if not names or folder.are_splits(inside):
        return
    if all(name.lower().replace(" ", "_") in GENERIC for name in names) or (len(names) == 1 and unread):
        more = f" ({'; '.join(unread)})" if unread else ""
        raise UserError(
            f"{path}: the only label would be the name of its sub-folder, {', '.join(names)}{more}; "
            "give a table of labels, or say --format folder if the name is the label"
        )


def _ambiguous(path: pathlib.Path, names: list[str], share: str = "") -> UserError:
    titles = " and ".join(f"{TITLES[name]} (--format {name})" for name in names)
    more = f"{share}its sub-folders are in {TITLES[names[0]]}" if share else ""
    return UserError(f"{path}: could be read as {titles}{more}; say with --format which is meant")


def of_file(path: pathlib.Path, readers: Mapping[str, FileReader]) -> str:
    """The format of a file; "" for rows of JSON.

    Args:
      path: the file, or a pattern of files.
      readers: format -> reader, from general to particular.

    Raises:
      UserError: a packed file, a recording, or a table that no reader understands, with its columns.
    """
    if format := next((name for name, reader in reversed(readers.items()) if reader.opens(path)), ""):
        return format
    if not path.is_file():
        return ""
    if advice := ADVICE.get(path.suffix.lower()):
        raise UserError(f"{path}: cannot be read as it is; {advice}")
    if formats.is_readable(path) or formats.is_unreadable_sound(path):
        raise UserError(f"{path}: is a recording; give the table of its labels, or the folder that it is in")
    names = tables.header(path) if tables.is_table(path) else ()
    if len(names) > 1 and not names[0].startswith(("{", "[")):
        raise UserError(f"{path}: {_missing(names)}; its columns are {', '.join(names)}. {REQUIREMENTS}")
    if path.suffix.lower() not in tables.JSON:
        _check_json(path)
    return ""


def _check_json(path: pathlib.Path) -> None:
    """Raises UserError if the first line of a file is not JSON, or the file is not text."""
    with textfile.open_text(path) as opened:
        first = next((line.strip() for line in opened if line.strip()), "")
    if not first:
        raise UserError(f"{path}: has no header line")
    if not first.startswith(("{", "[")):
        hint = f". {REQUIREMENTS}" if path.suffix else "; give a table a suffix such as .csv or .txt"
        raise UserError(f"{path}: is neither a table nor JSON lines{hint}")


def _missing(names: tuple[str, ...]) -> str:
    """The columns that a table lacks to be one of labels."""
    layout = columns.layout(names)
    if layout.label and not layout.file:
        return f"has labels in {layout.label!r}, but no column that names their recording"
    if layout.file and not layout.label:
        return f"names recordings in {layout.file!r}, but has no column of labels"
    return "no reader understands it"
