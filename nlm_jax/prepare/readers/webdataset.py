"""WebDataset: tar files with a recording `<key>.flac` (or another sound) and `<key>.json`, `.txt` or `.cls` for each
key. One tar, a folder of them, or a pattern: `shard-{000..127}.tar`, `train-*.tar`.

    a/7.flac, a/7.json {"label": "Robin"}        key a/7: Robin
    8.left.wav, 8.right.wav, 8.txt               key 8: one question about two recordings
    9.wav, 9.cls with 1, and classes.txt         key 9: line 1 (from 0) of classes.txt
"""

import collections
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nlm_jax.audio import formats
from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, Row
from nlm_jax.prepare import audio_sources, tars
from nlm_jax.prepare.readers import cells, datasets, hf_rows, lookup, row_streams
from nlm_jax.prepare.rejects import Notice, Reject

CLASSES = ("classes.txt", "classnames.txt", "labels.txt")
"""Names of the classes, a line each, next to tars whose `.cls` holds numbers."""


def opens(path: pathlib.Path) -> bool:
    """Whether a path is a tar, a folder with some and no recordings next to them, or a pattern of their names."""
    if not path.is_dir():
        return path.suffix == ".tar"
    return next(path.rglob("*.tar"), None) is not None and not lookup.recordings_by_name(path)


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
    """One question for each key with a recording: about its recordings, or the part between a start and an end in its
    JSON. A key without a label, or with metadata that cannot be read, is a reject.

    Raises:
      UserError: no tar, or a damaged one.
    """
    yield from row_streams.without_skipped(path, _items(path, root), ("json", "txt", "cls"))


def _items(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
    unreadable: collections.Counter[str] = collections.Counter()
    for file in tars.matching(path):
        classes, split = _class_names(file.parent), hf_rows.split_of(file, path)
        for key, members in _members_by_key(file).items():
            sounds = _recordings(members)
            if not sounds:
                skipped = filter(formats.is_unreadable_sound, members.values())
                unreadable.update(pathlib.PurePosixPath(member).suffix.lower() for member in skipped)
                continue
            tar = audio_sources.name_of(file, root)
            names = [audio_sources.member_name(tar, member) for member in sounds]
            try:
                yield datasets.row_example(_row(file, key, members, classes, split), names)
            except UserError as error:
                yield Reject(names[0], f"{file}: {key}", str(error).removeprefix(f"{file}: {key}: "))
    yield from map(Notice, formats.unreadable_notices(unreadable))


def _members_by_key(file: pathlib.Path) -> dict[str, dict[str, str]]:
    """Key -> suffix -> member. The key is the name up to the first dot after the last slash."""
    keys: dict[str, dict[str, str]] = {}
    for member in tars.members(file):
        folder, slash, name = member.rpartition("/")
        key, _, suffix = name.partition(".")
        if key and suffix:
            keys.setdefault(folder + slash + key, {})[suffix] = member
    return keys


def _recordings(members: Mapping[str, str]) -> list[str]:
    """The members with the recordings of a key: `<key>.wav`, or else all such as `<key>.left.wav`."""
    single = [member for suffix, member in members.items() if f".{suffix.lower()}" in formats.READABLE]
    return single[:1] or [member for member in members.values() if formats.is_readable(member)]


def _class_names(folder: pathlib.Path) -> list[str]:
    file = next((folder / name for name in CLASSES if (folder / name).is_file()), None)
    return file.read_text("utf-8-sig").splitlines() if file else []


def _row(file: pathlib.Path, key: str, members: Mapping[str, str], classes: Sequence[str], split: str) -> Row:
    """The metadata of a key, from the members next to its recordings."""
    values = _json(file, members["json"]) if "json" in members else {}
    for suffix, column in (("txt", "text"), ("cls", "cls")):
        if suffix in members and values.get(column) is None:
            values[column] = tars.read(file, members[suffix]).decode("utf-8", "replace").strip()
    number = cells.text(values.get("cls"))
    if number.isdigit() and int(number) < len(classes):
        values["cls"] = classes[int(number)]
    elif number.isdigit() and len(values) == 1:
        raise UserError(
            f"{file}: {key} is of class {number}; put {CLASSES[0]} with the names, a line each, next to the tars"
        )
    elif number.isdigit():
        del values["cls"]
    defaults = {"id": f"{file.stem}/{key}", **({"split": split} if split else {})}
    return Row({**defaults, **values}, f"{file}: {key}")


def _json(file: pathlib.Path, member: str) -> dict[str, Any]:
    """The JSON object in a member, its keys in lower case."""
    where = f"{file}: {member}"
    try:
        values = json.loads(tars.read(file, member))
    except ValueError as error:
        raise UserError(f"{where} is not valid JSON ({error})") from None
    if not isinstance(values, dict):
        raise UserError(f"{where} must be a JSON object")
    return {key.lower(): value for key, value in values.items()}
