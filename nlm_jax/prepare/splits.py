"""A held-out part for recordings that have no split: drawn by recording, so that no recording is in both parts."""

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
      content: what copies of one recording in several rows of a dataset have in common (`audio_sources.content`).
    """
    if not example.paths:
        return example.id
    name = example.paths[0]
    return file_of(name) if whole(name) == name else content(file_of(name))


def check(fraction: float) -> None:
    """Raises UserError for a fraction that leaves nothing in one of the parts."""
    if not 0 <= fraction < 1:
        raise UserError(f"--hold-out {fraction:g}: the share of recordings to hold out lies between 0 and 1, as in 0.2")


def divisible(splits: Collection[str]) -> frozenset[str]:
    """The splits that are divided: examples without one; and "train" if no example is of another split."""
    return frozenset(["", TRAIN]) if set(splits) == {TRAIN} else frozenset([""])


def draw(
    examples: Iterable[Example],
    fraction: float,
    splits: Collection[str] = ("",),
    name_of: Callable[[Example], str] = recording,
) -> tuple[frozenset[str], list[str]]:
    """Draws the recordings to hold out.

    For each label about `fraction` of its recordings, but at least one of two and never all. Recordings are ordered by
    the digests of their names, so that adding some does not move the others. A recording belongs to the label of its
    first example; it returns to training if another of its labels would be absent there.

    Args:
      examples: those that can be used: an unreadable recording must not be the one that represents its label.
      fraction: of the recordings of a label.
      splits: those that are divided, see `divisible`.
      name_of: the recording of an example; all examples of one recording go to the same part.

    Returns:
      The held-out recordings, and the labels that have a single recording, which stays in training.
    """
    first: dict[str, Example] = {}
    recordings_of: dict[str, set[str]] = collections.defaultdict(set)
    for example in examples:
        if example.split in splits:
            name = name_of(example)
            named_by = first.setdefault(name, example)
            if example.label and example.task == named_by.task:  # labels of other questions are not names of its sound
                recordings_of[example.label].add(name)
    groups: dict[str, list[str]] = collections.defaultdict(list)
    for name, example in first.items():
        groups[example.label or example.text].append(name)
    held_out, single = set(), []
    for label, names in groups.items():
        if len(names) < 2:
            single.append(label)
            continue
        names.sort(key=_order)
        held_out.update(names[: min(len(names) - 1, max(1, round(fraction * len(names))))])
    for label in sorted(recordings_of):
        if recordings_of[label] <= held_out:
            held_out.discard(max(recordings_of[label], key=_order))
    return frozenset(held_out), sorted(single)


def _order(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()


def assign(
    examples: Iterable[Example],
    held_out: frozenset[str],
    splits: Collection[str] = ("",),
    name_of: Callable[[Example], str] = recording,
) -> Iterator[Example]:
    """Yields the examples with "train" or "valid" in place of the split, if that is one of `splits`.

    Args:
      examples: of any split.
      held_out: recordings of "valid", see `draw`.
      splits: those that are divided.
      name_of: as for `draw`.
    """
    for example in examples:
        if example.split not in splits:
            yield example
        else:
            yield dataclasses.replace(example, split=VALID if name_of(example) in held_out else TRAIN)


class Division:
    """The held-out part of a corpus, drawn once the recordings have been converted.

    Args:
      fraction: of the recordings of a label; see `draw`.
      content: see `recording`.
    """

    def __init__(self, fraction: float, content: Callable[[str], str] = str):
        self.fraction = fraction
        self.content = content
        self.training_only: list[str] = []
        """Labels that have a single recording."""
        self.copies: Mapping[str, str] = {}
        """Recording -> the one with the same samples, which goes to the same part."""
        self._held_out: frozenset[str] | None = None
        self._splits: set[str] = set()

    @property
    def is_drawn(self) -> bool:
        """Whether the held-out part is drawn."""
        return self._held_out is not None

    @property
    def divisible(self) -> frozenset[str]:
        """The splits that are divided, known after a first pass through `assign`."""
        return divisible(self._splits)

    def draw(self, usable: Iterable[Example]) -> None:
        """Draws the held-out part among examples that can be used, after a first pass of all through `assign`."""
        self._held_out, self.training_only = draw(usable, self.fraction, self.divisible, self._name_of)

    def assign(self, examples: Iterable[Example]) -> Iterator[Example]:
        """Yields the examples with their split; before the draw unchanged, and their splits are remembered."""
        if self._held_out is not None:
            yield from assign(examples, self._held_out, self.divisible, self._name_of)
            return
        for example in examples:
            self._splits.add(example.split)
            yield example

    def _name_of(self, example: Example) -> str:
        name = recording(example, self.content)
        return self.copies.get(name, name)
