"""How annotations were read, in one line, and which files, columns and recordings of a folder were not used.

Examples:
    read as: Audacity tracks (3 files, 7 labels); 2 recordings below have no label; sites.csv: not understood (columns
    site, lat); more.zip: not read; unpack it and give the folder
"""

import pathlib
from collections.abc import Iterator, Sequence

from nlm_jax.audio import formats
from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, file_of
from nlm_jax.prepare import audio_sources
from nlm_jax.prepare.readers import audacity, columns, label_files, label_table, raven, tables
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
"""Format -> its name in messages."""
LABEL_READERS = {"table": label_files, "raven": raven, "audacity": audacity}
"""Formats of labels that people write next to recordings."""
ADVICE = {
    **dict.fromkeys((".zip", ".7z", ".rar", ".gz", ".tgz", ".bz2", ".xz"), "unpack it and give the folder"),
    **dict.fromkeys((".xlsx", ".xls", ".xlsb", ".ods", ".numbers", ".xlsm"), "save it as CSV and give that"),
    **dict.fromkeys((".pdf", ".doc", ".docx", ".odt", ".rtf", ".pages"), "save its table as CSV and give that"),
    **dict.fromkeys(
        (".textgrid", ".eaf", ".svl", ".antx", ".xml", ".aup", ".aup3"),
        "export a table with the columns file, start, end and label from the program that made it",
    ),
}
"""Suffix of files that may hold annotations and cannot be read -> what to do."""
MAX_NAMES = 12
"""Columns, or files, in one message."""


def with_read_as(
    items: Iterator[Example | Reject | Notice], format: str, path: pathlib.Path, root: pathlib.Path
) -> Iterator[Example | Reject | Notice | ReadAs]:
    """The items of a reader, followed by how its files were read and what was not used.

    Args:
      items: from the reader.
      format: its name in the registry.
      path: the annotations.
      root: folder of relative audio paths.

    Raises:
      UserError: that of the reader; if a folder has no labels, with the files that were not read.
    """
    labelled: set[str] = set()
    count = 0
    try:
        for item in items:
            if isinstance(item, Example):
                count += 1
                labelled.update(recordings_of(item))
            yield item
    except UserError as error:
        unused = _not_used(path, root, [], labelled) if path.is_dir() and format == "folder" and not count else []
        raise UserError("; ".join([str(error), *unused])) from error
    files = _label_files(format, path)
    number = f"{len(files)} file{'s' * (len(files) != 1)}, " if files else ""
    parts = [f"{_title(format, path, files)} ({number}{count} label{'s' * (count != 1)})"]
    if path.is_dir() and format in (*LABEL_READERS, "folder"):
        parts += _not_used(path, root, files, labelled)
    if format != "audacity":
        parts += _unused_columns(files)
    yield ReadAs(f"read as: {'; '.join(parts)}")


def recordings_of(item: Example | Reject | Notice) -> list[str]:
    """The recordings of an example; none of other items."""
    return [file_of(name) for name in item.paths] if isinstance(item, Example) else []


def unread_files(path: pathlib.Path, used: Sequence[pathlib.Path]) -> list[str]:
    """Files of a folder that were not read, a phrase for each table and packed file, at most `MAX_NAMES`.

    Args:
      path: the folder.
      used: its files that were read.
    """
    phrases = [text for file in label_files.tables_below(path) if file not in used and (text := _unused(file, path))]
    packed = [file for file in sorted(formats.files_below(path)) if file.suffix.lower() in ADVICE]
    packed = [file for file in packed if not file.name.startswith("~$")]  # a lock file of Excel
    phrases += [f"{file.relative_to(path)}: not read; {ADVICE[file.suffix.lower()]}" for file in packed]
    more = [f"{len(phrases) - MAX_NAMES} more files are not read"] if len(phrases) > MAX_NAMES else []
    return phrases[:MAX_NAMES] + more


def _label_files(format: str, path: pathlib.Path) -> list[pathlib.Path]:
    """The label tables and tracks that were read."""
    if format in LABEL_READERS:
        return LABEL_READERS[format].files(path)
    if format == "folder" and (path.is_file() or (path / label_files.NAME).is_file()):
        return label_files.files(path)
    return []


def _title(format: str, path: pathlib.Path, files: Sequence[pathlib.Path]) -> str:
    if format == "folder" and path.is_dir() and files:
        return label_files.NAME
    if format == "folder" and path.is_file():
        return TITLES["table"]
    return TITLES.get(format, format)


def _not_used(path: pathlib.Path, root: pathlib.Path, files: Sequence[pathlib.Path], labelled: set[str]) -> list[str]:
    """Files of a folder that were not used: recordings without a label, other tables, packed files."""
    recordings = formats.Folder.of(root).recordings if root.is_dir() else []
    count = len({audio_sources.name_of(file, root) for file in recordings} - labelled)
    unlabelled = f"{count} recording{'s' * (count != 1)} below {'have' if count != 1 else 'has'} no label"
    return [*([unlabelled] if count else []), *unread_files(path, files)]


def _unused(file: pathlib.Path, path: pathlib.Path) -> str:
    """A phrase about a table that was not read; "" for a text file that is hardly a table."""
    names, shown = tables.header(file), file.relative_to(path)
    if label_table.is_selection_table(file):
        return f"{shown}: not used (--format raven)"
    if label_table.is_label_table(file):
        return f"{shown}: not used (--format table)"
    layout = columns.layout(names)
    if file.suffix.lower() == ".txt" and not (len(names) > 2 and (layout.label or layout.timed)):
        return ""
    return f"{shown}: not understood (columns {', '.join(names)})" if names else f"{shown}: not understood"


def _unused_columns(files: Sequence[pathlib.Path]) -> list[str]:
    """A phrase about the columns of label tables that nothing is read from; none if there are no such columns."""
    names = sorted({name for file in files for name in label_table.unused_columns(file)})
    if not names:
        return []
    more = ", ..." if len(names) > MAX_NAMES else ""
    return [f"not used: column{'s' * (len(names) != 1)} {', '.join(names[:MAX_NAMES])}{more}"]
