"""Chooses the reader of annotations without --format, and reports what was read and what was not."""

import pathlib
from collections.abc import Iterator, Mapping
from types import ModuleType

from nlm_jax.audio import formats
from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, file_of
from nlm_jax.prepare import audio_sources
from nlm_jax.prepare.readers import columns, folder, label_files, label_table, lookup, tables, textfile
from nlm_jax.prepare.rejects import Notice, ReadAs, Reject

TITLES = {
    "folder": "a folder for each class",
    "table": "label tables",
    "raven": "Raven selection tables",
    "audacity": "Audacity tracks",
    "xeno-canto": "metadata of xeno-canto",
    "darwin-core": "Darwin Core occurrences",
    "animalspeak": "captions",
    "datasets": "a dataset",
    "webdataset": "tars of WebDataset",
    "naturelm": "the NatureLM training set",
}
OWN = ("table", "raven", "audacity")
"""Labels that people make beside recordings: a few must not stand for a whole folder."""
ENOUGH = 0.5
"""Share of the recordings in sub-folders that such labels must be about."""
PACKED = {
    **dict.fromkeys((".zip", ".7z", ".rar", ".gz", ".tgz", ".bz2", ".xz"), "unpack it and give the folder"),
    **dict.fromkeys((".xlsx", ".xls", ".xlsb", ".ods", ".numbers", ".xlsm"), "save it as CSV and give that"),
    **dict.fromkeys((".pdf", ".doc", ".docx", ".odt", ".rtf", ".pages"), "save its table as CSV and give that"),
    **dict.fromkeys(
        (".textgrid", ".eaf", ".svl", ".antx", ".xml", ".aup", ".aup3"),
        "export a table with the columns file, start, end and label from the program that made it",
    ),
}
"""Files that may hold annotations and cannot be read -> what to do."""
GENERIC = {
    *lookup.BESIDE,
    *("audio_files", "audiofiles", "audio_data", "files", "flac", "mp3", "raw", "samples", "sound", "soundscapes"),
    *("recording", "record", "records", "audios", "train_soundscapes", "test_soundscapes", "test_audio"),
}
"""Names of sub-folders that are no classes."""
SHOWN = 12
"""Columns, or files, that a line names at most."""
NEEDS = (
    "Labels need a column with the recording (such as file, filename or path) and one with the label (such as label, "
    "species or common_name), or start and end beside a recording of the table's name; captions a column caption; "
    "xeno-canto gen and sp; Darwin Core scientificName and occurrenceID"
)


def of_folder(path: pathlib.Path, root: pathlib.Path, readers: Mapping[str, ModuleType]) -> str:
    """The name of the reader for a folder.

    Raises:
      UserError: two of them fit, and neither covers what the other one does.
    """
    if (path / label_files.NAME).is_file():
        return "folder"
    fitting = [name for name, reader in reversed(readers.items()) if name not in ("folder", "inaturalist")]
    fitting = [name for name in fitting if readers[name].opens(path)]
    others = [name for name in fitting if name not in OWN]
    own = [name for name in fitting if name in OWN and not (name == "table" and others)]
    if len(own) + bool(others) > 1:
        raise _ambiguous(path, [*own, *others[:1]])
    if not own and not others:
        _check_classes(path)
        return "folder"
    if not own:
        return others[0]
    inside = {audio_sources.name_of(p, root) for p in formats.Folder.of(path).recordings if p.parent != path}
    if inside:
        labelled = {name for item in readers[own[0]].examples(path, root) for name in _wholes(item)}
        share = len(labelled & inside) / len(inside)
        if share < ENOUGH:
            raise _ambiguous(path, [own[0], "folder"], f"; {len(labelled & inside)} of {len(inside)} recordings in ")
    return own[0]


def _check_classes(path: pathlib.Path) -> None:
    """Raises UserError if the names of sub-folders would be the labels, and are hardly meant to be."""
    inside = [file.relative_to(path).parts for file in formats.Folder.of(path).recordings]
    names = sorted({parts[0] for parts in inside if len(parts) > 1})
    unread = _unread(path, [])
    if not names or folder.are_splits(inside):
        return
    if all(name.lower().replace(" ", "_") in GENERIC for name in names) or (len(names) == 1 and unread):
        more = f" ({'; '.join(unread)})" if unread else ""
        raise UserError(
            f"{path}: the only label would be the name of its sub-folder, {', '.join(names)}{more}; "
            "give a table of labels, or say --format folder if the name is the label"
        )


def _ambiguous(path: pathlib.Path, names: list[str], more: str = "") -> UserError:
    titles = " and ".join(f"{TITLES[name]} (--format {name})" for name in names)
    more = f"{more}its sub-folders are in {TITLES[names[0]]}" if more else ""
    return UserError(f"{path}: could be read as {titles}{more}; say with --format which is meant")


def of_file(path: pathlib.Path, readers: Mapping[str, ModuleType]) -> str:
    """The name of the reader for a file, "" if it has rows of JSON.

    Raises:
      UserError: a packed file, or a table that no reader understands, with its columns.
    """
    if kind := next((name for name, reader in reversed(readers.items()) if reader.opens(path)), ""):
        return kind
    if path.is_file() and (packed := PACKED.get(path.suffix.lower())):
        raise UserError(f"{path}: cannot be read as it is; {packed}")
    if path.is_file() and (formats.is_readable(path) or formats.is_unreadable_sound(path)):
        raise UserError(f"{path}: is a recording; give the table of its labels, or the folder that it is in")
    names = tables.header(path) if tables.is_table(path) else ()
    if len(names) > 1 and not names[0].startswith(("{", "[")):
        raise UserError(f"{path}: {_lacks(names)}; its columns are {', '.join(names)}. {NEEDS}")
    if path.is_file() and path.suffix.lower() not in tables.JSON:
        with textfile.open_text(path) as opened:  # which raises a UserError if it is none
            first = next((line.strip() for line in opened if line.strip()), "")
        if not first.startswith(("{", "[")):
            way = f". {NEEDS}" if path.suffix else "; give a table a suffix such as .csv or .txt"
            raise UserError(f"{path}: {'is neither a table nor JSON lines' + way if first else 'has no header line'}")
    return ""


def _lacks(names: tuple[str, ...]) -> str:
    """What a table has not that a table of labels needs."""
    layout = columns.layout(names)
    if layout.label and not layout.file:
        return f"has labels in {layout.label!r}, but no column that names their recording"
    if layout.file and not layout.label:
        return f"names recordings in {layout.file!r}, but has no column of labels"
    return "no reader understands it"


def described(
    name: str, path: pathlib.Path, root: pathlib.Path, stream: Iterator[Example | Reject | Notice]
) -> Iterator[Example | Reject | Notice | ReadAs]:
    """The stream, followed by a notice of how a folder or table was read and what was not used."""
    labelled: set[str] = set()
    count = 0
    try:
        for item in stream:
            if isinstance(item, Example):
                count += 1
                labelled.update(_wholes(item))
            yield item
    except UserError as error:
        more = _left(path, root, [], labelled) if path.is_dir() and name == "folder" and not count else []
        raise UserError("; ".join([str(error), *more])) from error
    used = _used(name, path)
    title = label_files.NAME if name == "folder" and path.is_dir() and used else TITLES.get(name, name)
    title = TITLES["table"] if name == "folder" and path.is_file() else title
    files = f"{len(used)} file{'s' * (len(used) != 1)}, " if used else ""
    parts = [f"{title} ({files}{count} label{'s' * (count != 1)})"]
    if path.is_dir() and name in (*OWN, "folder"):
        parts += _left(path, root, used, labelled)
    ignored = sorted({column for file in used for column in label_table.ignored(file)} if name != "audacity" else ())
    if ignored:
        more = ", ..." if len(ignored) > SHOWN else ""
        parts.append(f"not used: column{'s' * (len(ignored) != 1)} {', '.join(ignored[:SHOWN])}{more}")
    yield ReadAs(f"read as: {'; '.join(parts)}")


def _left(path: pathlib.Path, root: pathlib.Path, used: list[pathlib.Path], labelled: set[str]) -> list[str]:
    """What of a folder was not read: recordings without a label, other tables, packed files."""
    every = (
        {audio_sources.name_of(file, root) for file in formats.Folder.of(root).recordings} if root.is_dir() else set()
    )
    without = len(every - labelled)
    left = [f"{without} recording{'s' * (without != 1)} below {'have' if without != 1 else 'has'} no label"] * (
        without > 0
    )
    return left + _unread(path, used)


def _unread(path: pathlib.Path, used: list[pathlib.Path]) -> list[str]:
    """The tables and packed files of a folder that were not read, the first ones of many."""
    lines = [line for file in label_files.listed(path) if file not in used and (line := _unused(file, path))]
    packed = [file for file in sorted(formats.files_below(path)) if file.suffix.lower() in PACKED]
    packed = [file for file in packed if not file.name.startswith("~$")]  # a lock of Excel's
    lines += [f"{file.relative_to(path)}: not read; {PACKED[file.suffix.lower()]}" for file in packed]
    return lines[:SHOWN] + ([f"{len(lines) - SHOWN} more files are not read"] if len(lines) > SHOWN else [])


def _used(name: str, path: pathlib.Path) -> list[pathlib.Path]:
    from nlm_jax.prepare.readers import audacity, raven

    if name == "raven":
        return raven.files(path)
    if name == "audacity":
        return audacity.files(path)
    if name == "table" or (name == "folder" and (path.is_file() or (path / label_files.NAME).is_file())):
        return label_files.files(path)
    return []


def _unused(file: pathlib.Path, path: pathlib.Path) -> str:
    """What to say of a table that was not read; "" for text that is none."""
    names, shown = tables.header(file), file.relative_to(path)
    if label_table.is_selections(file):
        return f"{shown}: not used (--format raven)"
    if label_table.fits(file):
        return f"{shown}: not used (--format table)"
    layout = columns.layout(names)
    if file.suffix.lower() == ".txt" and not (len(names) > 2 and (layout.label or layout.timed)):
        return ""
    return f"{shown}: not understood (columns {', '.join(names)})" if names else f"{shown}: not understood"


def _wholes(item: Example | Reject | Notice) -> list[str]:
    return [file_of(name) for name in item.paths] if isinstance(item, Example) else []
