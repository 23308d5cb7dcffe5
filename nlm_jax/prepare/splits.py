"""A held-out part for labelled recordings that have no split: drawn by recording, so that no recording is in both."""

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, file_of, whole

TRAIN, VALID = "train", "valid"


def recording(example: Example, content: Callable[[str], str] = str) -> str:
    """The recording a question is about; parts of one recording, and clips of one question, belong together.

    Args:
      example: the question.
      content: what copies of one recording have in common, of which the rows of a dataset name parts.
    """
    if not example.paths:
        return example.id
    name = example.paths[0]
    return file_of(name) if whole(name) == name else content(file_of(name))


def check(fraction: float) -> None:
    """Raises UserError for a fraction that leaves nothing on one side."""
    if not 0 <= fraction < 1:
        raise UserError(f"--hold-out {fraction:g}: the share of recordings to hold out lies between 0 and 1, as in 0.2")


def divisible(splits: Collection[str]) -> frozenset[str]:
    """The splits of a corpus that are divided: examples without one, or the training part that is all there is."""
    return frozenset(["", TRAIN]) if set(splits) == {TRAIN} else frozenset([""])


def draw(
    examples: Iterable[Example],
    fraction: float,
    splits: Collection[str] = ("",),
    named: Callable[[Example], str] = recording,
) -> tuple[frozenset[str], list[str]]:
    """Recordings to hold out of those in `splits`, and the labels of which there is one recording only, which stay.

    Of each label about `fraction` of its recordings, but at least one of two and never all. The order is that of the
    digests of their names: it depends on nothing else, so that new recordings do not move old ones across. A recording
    belongs to its first label; it goes back to training if it has another one that would be nowhere else there.

    Args:
      examples: those that can be used: a recording that cannot be read must not stand for its label.
      fraction: of the recordings of a label.
      splits: see `divisible`.
      named: the recording of an example, all of which goes to one side.
    """
    first: dict[str, Example] = {}
    labels: dict[str, set[str]] = collections.defaultdict(set)
    for example in examples:
        if example.split in splits:
            name = named(example)
            asked = first.setdefault(name, example)
            if example.label and example.task == asked.task:  # not what other questions about it are answered with
                labels[example.label].add(name)
    groups: dict[str, list[str]] = collections.defaultdict(list)
    for name, example in first.items():
        groups[example.label or example.text].append(name)
    held, lonely = set(), []
    for label, names in groups.items():
        if len(names) < 2:
            lonely.append(label)
            continue
        names.sort(key=_order)
        held.update(names[: min(len(names) - 1, max(1, round(fraction * len(names))))])
    for label in sorted(labels):
        if labels[label] <= held:
            held.discard(max(labels[label], key=_order))
    return frozenset(held), sorted(lonely)


def _order(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()


def divided(
    examples: Iterable[Example],
    held: frozenset[str],
    splits: Collection[str] = ("",),
    named: Callable[[Example], str] = recording,
) -> Iterator[Example]:
    """The examples with their split; one that a file gives stays."""
    for example in examples:
        if example.split not in splits:
            yield example
        else:
            yield dataclasses.replace(example, split=VALID if named(example) in held else TRAIN)


class Division:
    """The held-out part of a corpus. It is drawn after the recordings were read, of those that can be used."""

    def __init__(self, fraction: float, content: Callable[[str], str] = str):
        self.fraction = fraction
        self.content = content
        """See `recording`."""
        self.held: frozenset[str] | None = None
        self.training_only: list[str] = []
        """Labels of which there is one recording only."""
        self.splits: frozenset[str] = frozenset()
        self.copies: Mapping[str, str] = {}
        """Recording -> the one with the same sound that it goes with."""

    def of(self, splits: Collection[str]) -> None:
        """Takes note of the splits that the annotations give."""
        self.splits = divisible(splits)

    def draw(self, usable: Iterable[Example]) -> None:
        """Draws the part; `of` comes before."""
        self.held, self.training_only = draw(usable, self.fraction, self.splits, self._original)

    def divided(self, examples: Iterable[Example]) -> Iterator[Example]:
        """The examples with their split, once it is drawn; before that as they are."""
        return examples if self.held is None else divided(examples, self.held, self.splits, self._original)

    def _original(self, example: Example) -> str:
        name = recording(example, self.content)
        return self.copies.get(name, name)
