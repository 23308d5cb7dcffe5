"""A held-out part for labelled recordings that have no split: drawn by recording, so that no recording is in both."""

import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, whole

TRAIN, VALID = "train", "valid"


def recording(example: Example) -> str:
    """The recording a question is about; parts of one recording, and clips of one question, belong together."""
    return whole(example.paths[0]) if example.paths else example.id


def check(fraction: float) -> None:
    """Raises UserError for a fraction that leaves nothing on one side."""
    if not 0 <= fraction < 1:
        raise UserError(f"--hold-out {fraction:g}: the share of recordings to hold out lies between 0 and 1, as in 0.2")


def draw(examples: Iterable[Example], fraction: float) -> tuple[frozenset[str], list[str]]:
    """Recordings to hold out, and the labels of which there is one recording only, which stay in training.

    Of each label about `fraction` of its recordings, but at least one of two and never all. The order is that of the
    digests of their names: it depends on nothing else, so that new recordings do not move old ones across.
    """
    first: dict[str, str] = {}
    for example in examples:
        if not example.split:
            first.setdefault(recording(example), example.label or example.text)
    groups: dict[str, list[str]] = collections.defaultdict(list)
    for name, label in first.items():
        groups[label].append(name)
    held, lonely = set(), []
    for label, names in groups.items():
        if len(names) < 2:
            lonely.append(label)
            continue
        names.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
        held.update(names[: min(len(names) - 1, max(1, round(fraction * len(names))))])
    return frozenset(held), sorted(lonely)


def divided(examples: Iterable[Example], held: frozenset[str]) -> Iterator[Example]:
    """The examples with their split; one that a file gives stays."""
    for example in examples:
        if example.split:
            yield example
        else:
            yield dataclasses.replace(example, split=VALID if recording(example) in held else TRAIN)
