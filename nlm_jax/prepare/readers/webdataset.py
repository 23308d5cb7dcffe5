"""WebDataset: tar files with a recording `<key>.flac` (wav, ogg, mp3) and `<key>.json`, `.txt` or `.cls` for each key.
One tar, a folder of them, or a pattern: `shard-{000..127}.tar`, `train-*.tar`."""

import collections
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from nlm_jax.audio import formats
from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, Row
from nlm_jax.prepare import audio_sources, tars
from nlm_jax.prepare.readers import common, datasets, hf_rows, recording_facts
from nlm_jax.prepare.rejects import Notice, Reject

CLASSES = ("classes.txt", "classnames.txt", "labels.txt")
"""Names of the classes, a line each, beside tars whose `.cls` holds numbers."""


def opens(path: pathlib.Path) -> bool:
    """A tar, a folder with some and no recordings beside them, or a pattern of their names."""
    if not path.is_dir():
        return path.suffix == ".tar"
    return next(path.rglob("*.tar"), None) is not None and not common.below(path)


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
    """One question for each key with a recording and something that is said of it: of its recordings, or of the part
    between a start and an end in its JSON. A key that says nothing, or with metadata that cannot be read, is a
    reject.

    Raises:
      UserError: no tar, or a damaged one.
    """
    yield from common.told_of(path, _examples(path, root), ("json", "txt", "cls"))


def _examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
    unreadable: collections.Counter[str] = collections.Counter()
    for file in tars.matching(path):
        classes, split = _classes(file.parent), hf_rows.split_of(file, path)
        for key, sample in _samples(file).items():
            sounds = _sounds(sample)
            if not sounds:
                lost = filter(formats.is_unreadable_sound, sample.values())
                unreadable.update(pathlib.PurePosixPath(member).suffix.lower() for member in lost)
                continue
            names = tuple(audio_sources.member_name(audio_sources.name_of(file, root), member) for member in sounds)
            try:
                yield datasets.asked(_row(file, key, sample, classes, split), names)
            except UserError as error:
                yield Reject(names[0], f"{file}: {key}", str(error).removeprefix(f"{file}: {key}: "))
    yield from map(Notice, formats.unreadable_notices(unreadable))


def _sounds(sample: dict[str, str]) -> list[str]:
    """Members with the recordings of a key: `<key>.wav`, or else all that go on as `<key>.left.wav`."""
    plain = [member for suffix, member in sample.items() if f".{suffix.lower()}" in formats.READABLE]
    return plain[:1] or [member for member in sample.values() if formats.is_readable(member)]


def _samples(file: pathlib.Path) -> dict[str, dict[str, str]]:
    """Key -> suffix -> member. A key is all of a name before the first dot of its last part."""
    found: dict[str, dict[str, str]] = {}
    for member in tars.members(file):
        folder, slash, name = member.rpartition("/")
        key, _, suffix = name.partition(".")
        if key and suffix:
            found.setdefault(folder + slash + key, {})[suffix] = member
    return found


def _classes(folder: pathlib.Path) -> list[str]:
    file = next((folder / name for name in CLASSES if (folder / name).is_file()), None)
    return file.read_text("utf-8-sig").splitlines() if file else []


def _row(file: pathlib.Path, key: str, sample: dict[str, str], classes: list[str], split: str) -> Row:
    """What the members beside a recording say of it."""
    values: dict[str, Any] = {}
    if "json" in sample:
        where = f"{file}: {sample['json']}"
        try:
            said = json.loads(tars.read(file, sample["json"]))
        except ValueError as error:
            raise UserError(f"{where} is not valid JSON ({error})") from None
        if not isinstance(said, dict):
            raise UserError(f"{where} must be a JSON object")
        values = {k.lower(): v for k, v in said.items()}
    for suffix, column in (("txt", "text"), ("cls", "cls")):
        if suffix in sample and values.get(column) is None:
            values[column] = tars.read(file, sample[suffix]).decode("utf-8", "replace").strip()
    code = recording_facts.text(values.get("cls"))
    if code.isdigit() and int(code) < len(classes):
        values["cls"] = classes[int(code)]
    elif code.isdigit() and len(values) == 1:
        raise UserError(
            f"{file}: {key} is of class {code}; put {CLASSES[0]} with the names, a line each, beside the tars"
        )
    elif code.isdigit():
        del values["cls"]
    given = {"split": split} if split else {}
    return Row({"id": f"{file.stem}/{key}", **given, **values}, f"{file}: {key}")
