"""A folder of recordings with one sub-folder for each class."""

import pathlib
from collections.abc import Iterator, Sequence

from nlm_jax.audio import formats
from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, Row
from nlm_jax.prepare import audio_sources
from nlm_jax.prepare.readers import cells, common, label_files
from nlm_jax.prepare.rejects import Notice, Reject

SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval")
"""Sub-folders that are parts of a dataset if they have sub-folders of their own."""


def opens(path: pathlib.Path) -> bool:
    """Any folder, or a table such as `labels.csv`."""
    return path.is_dir() or label_files.opens(path)


def are_splits(inside: Sequence[Sequence[str]]) -> bool:
    """Whether the sub-folders are parts of a dataset, each with its classes: `train/owl/1.wav`.

    Args:
      inside: the parts of each recording's path.
    """
    tops = [parts for parts in inside if len(parts) > 1]
    return bool(tops) and all(parts[0].lower() in SPLITS and len(parts) > 2 for parts in tops)


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
    """One question for each recording in a sub-folder, which names its class (below `train`, `test` and the like, if
    all are such; the class `nocall` says that nothing is heard); of `labels.csv`, and of a table that is
    given itself, one for each row.

    Raises:
      UserError: there are neither labels nor sub-folders with recordings.
    """
    if path.is_file() or (path / label_files.NAME).is_file():
        yield from label_files.examples(path, root)
        return
    sound, found = formats.Folder.of(path), False
    inside = [file.relative_to(path).parts for file in sound.recordings]
    split = are_splits(inside)
    for file, parts in zip(sound.recordings, inside, strict=True):
        label = cells.bare(parts[split].replace("_", " "))
        if len(parts) > 1 + split and label:
            found = True
            row, name = Row({"split": parts[0].lower()} if split else {}, str(file)), audio_sources.name_of(file, root)
            yield common.negative(row, name) if cells.is_silent(label) else common.example(row, name, label)
    yield from map(Notice, sound.notices)
    if not found:
        more = f"; {'; '.join(sound.notices)}" if sound.notices else ""
        raise UserError(
            f"{path}: neither {label_files.NAME} nor sub-folders with recordings (.wav, .flac, .mp3, ...) in it{more}"
        )
