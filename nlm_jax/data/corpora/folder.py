"""A folder of recordings with one sub-folder for each class."""

import pathlib
from collections.abc import Iterator

from nlm_jax.audio import formats
from nlm_jax.core.errors import UserError
from nlm_jax.data import recordings
from nlm_jax.data.corpora import cells, label_files, labels
from nlm_jax.data.report import Notice, Reject
from nlm_jax.data.schema import Example, Row


def opens(path: pathlib.Path) -> bool:
    """Any folder, or a table such as `labels.csv`."""
    return path.is_dir() or label_files.opens(path)


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
    """One question for each recording in a sub-folder, which names its class; of `labels.csv`, and of a table that is
    given itself, one for each row.

    Raises:
      UserError: there are neither labels nor sub-folders with recordings.
    """
    if path.is_file() or (path / label_files.NAME).is_file():
        yield from label_files.examples(path, root)
        return
    sound, found = formats.Folder.of(path), False
    for file in sound.recordings:
        parts = file.relative_to(path).parts
        label = cells.bare(parts[0].replace("_", " "))
        if len(parts) > 1 and label:
            found = True
            yield labels.example(Row({}, str(file)), recordings.name_of(file, root), label)
    yield from map(Notice, sound.notices)
    if not found:
        more = f"; {'; '.join(sound.notices)}" if sound.notices else ""
        raise UserError(
            f"{path}: neither {label_files.NAME} nor sub-folders with recordings (.wav, .flac, .mp3, ...) in it{more}"
        )
