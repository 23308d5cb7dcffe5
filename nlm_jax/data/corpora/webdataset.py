"""WebDataset: tar files with a recording `<key>.flac` (wav, ogg, mp3) and `<key>.json`, `.txt` or `.cls` for each key.
One tar, a folder of them, or a pattern: `shard-{000..127}.tar`, `train-*.tar`."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

from nlm_jax.audio import formats
from nlm_jax.core.errors import UserError
from nlm_jax.data import recordings, tars
from nlm_jax.data.corpora import labels, metadata
from nlm_jax.data.report import Notice, Reject
from nlm_jax.data.schema import Example, Row

CLASSES = ("classes.txt", "classnames.txt", "labels.txt")
"""Names of the classes, a line each, beside tars whose `.cls` holds numbers."""


def opens(path: pathlib.Path) -> bool:
    """A tar, a folder with some and no recordings beside them, or a pattern of their names."""
    if not path.is_dir():
        return path.suffix == ".tar"
    return next(path.rglob("*.tar"), None) is not None and not labels.below(path)


def examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
    """One question for each recording with its own metadata; a key without any is passed over, and counted.

    Raises:
      UserError: no tar, a damaged one, or JSON that is none (with its tar and member).
    """
    yield from labels.told_of(path, _examples(path, root), ("json", "txt", "cls"))


def _examples(path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
    for file in tars.matching(path):
        classes = _classes(file.parent)
        for key, sample in _samples(file).items():
            audio = next((suffix for suffix in sample if f".{suffix.lower()}" in formats.READABLE), None)
            if audio is None:
                continue
            row = _row(file, key, sample, classes)
            name = recordings.member_name(recordings.name_of(file, root), sample[audio])
            try:
                yield labels.told(row, name, metadata.facts(row.values, sure=False))
            except UserError as error:
                yield Reject(name, row.where, str(error).removeprefix(f"{row.where}: "))


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


def _row(file: pathlib.Path, key: str, sample: dict[str, str], classes: list[str]) -> Row:
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
    code = metadata.text(values.get("cls"))
    if code.isdigit() and int(code) < len(classes):
        values["cls"] = classes[int(code)]
    elif code.isdigit() and len(values) == 1:
        raise UserError(
            f"{file}: {key} is of class {code}; put {CLASSES[0]} with the names, a line each, beside the tars"
        )
    elif code.isdigit():
        del values["cls"]
    return Row({"id": f"{file.stem}/{key}", **values}, f"{file}: {key}")
