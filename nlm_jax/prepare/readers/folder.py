"""A folder of recordings with one sub-folder for each class.

Examples:
    owl/1.wav             owl
    wren/2.wav            wren
    nocall/3.wav          None
    train/owl/1.wav       owl, in the split train: all sub-folders are splits with sub-folders of their own
"""

import pathlib
from collections.abc import Iterator, Sequence

from nlm_jax.audio import formats
from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, Row
from nlm_jax.prepare import audio_sources
from nlm_jax.prepare.readers import cells, label_files, row_examples
from nlm_jax.prepare.rejects import Notice, Reject

SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval")
"""Sub-folders that are splits if they have sub-folders of their own."""


def opens(path: pathlib.Path) -> bool:
    """Whether a path is a folder, or a table such as `labels.csv`."""
    return path.is_dir() or label_files.opens(path)


def are_splits(inside: Sequence[Sequence[str]]) -> bool:
    """Whether all sub-folders are splits, each with its classes: `train/owl/1.wav`.

    Args:
      inside: the parts of each recording's path.
    """
    nested = [parts for parts in inside if len(parts) > 1]
    return bool(nested) and all(parts[0].lower() in SPLITS and len(parts) > 2 for parts in nested)


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
    """One question for each recording in a sub-folder, whose name is the class.

    If the folder has `labels.csv`, or the path is a table, one for each of its rows instead.

    Raises:
      UserError: there are neither labels nor sub-folders with recordings.
    """
    if path.is_file() or (path / label_files.NAME).is_file():
        yield from label_files.examples(path, root)
        return
    sound = formats.Folder.of(path)
    inside = [file.relative_to(path).parts for file in sound.recordings]
    has_splits = are_splits(inside)
    any_label = False
    for file, parts in zip(sound.recordings, inside, strict=True):
        classes = parts[has_splits:-1]
        if classes and (label := cells.label_text(classes[0].replace("_", " "))):
            any_label = True
            row = Row({"split": parts[0].lower()} if has_splits else {}, str(file))
            name = audio_sources.name_of(file, root)
            if cells.is_silent(label):
                yield row_examples.negative_example(row, name)
            else:
                yield row_examples.label_example(row, name, label)
    yield from map(Notice, sound.notices)
    if not any_label:
        more = f"; {'; '.join(sound.notices)}" if sound.notices else ""
        raise UserError(
            f"{path}: neither {label_files.NAME} nor sub-folders with recordings (.wav, .flac, .mp3, ...) in it{more}"
        )
