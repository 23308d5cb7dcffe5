"""From free answers to labels: the nearest by edit distance, as the benchmark's scorer does it, with its ties shown.

That scorer walks a Python set, so where two labels are equally near its result moves with the hash seed. Here every
equally near label is given, in sorted order, and the first of them counts.
"""

import dataclasses
import functools
from collections.abc import Iterable

from rapidfuzz.distance import Levenshtein

from nlm_jax.evaluate.beans_zero.parts import NONE

END = "<|end_of_text|>"
END_TOKENS = (END, "<|eot_id|>")
FAR = 5
"""Largest distance at which a detected item still counts as a label."""


def cut(answer: str) -> str:
    """What stands before the end token: all that the benchmark's scorer does to an answer. Blanks stay."""
    return answer.split(END)[0]


def cleaned(answer: str) -> str:
    """What stands before the first end token of either kind, without outer blanks."""
    for token in END_TOKENS:
        answer = answer.split(token)[0]
    return answer.strip()


def items(text: str) -> list[str]:
    """The comma-separated items of an answer or a label."""
    return [item.strip() for item in text.split(",")]


@dataclasses.dataclass(frozen=True)
class Labels:
    """A label set in sorted order."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> "Labels":
        return cls(tuple(sorted(set(names))))

    @functools.cached_property
    def known(self) -> frozenset[str]:
        return frozenset(self.names)

    def nearest(self, answer: str) -> tuple[int, tuple[str, ...]]:
        """The least edit distance of `answer` to a label, and every label at that distance, in order."""
        return _nearest(self, answer)


@functools.lru_cache(maxsize=1 << 16)
def _nearest(labels: Labels, answer: str) -> tuple[int, tuple[str, ...]]:
    if answer in labels.known:
        return 0, (answer,)
    distances = [Levenshtein.distance(answer, name) for name in labels.names]
    least = min(distances, default=0)
    return least, tuple(name for name, d in zip(labels.names, distances, strict=True) if d == least)


def classified(answer: str, labels: Labels) -> tuple[str, ...]:
    """The labels an answer to a classification may mean: one, or several equally near ones in sorted order."""
    answer = cut(answer)
    return labels.nearest(answer)[1] or (answer,)


def detected(answer: str, labels: Labels) -> tuple[tuple[str, ...], ...]:
    """The same for each item of an answer to a detection; an item far from every label is "None".

    A label may itself be a list ("Ovenbird, Blue Jay"): the scorer's label set holds whatever the file has as a label.
    """
    found = []
    for item in answer.split(","):
        distance, names = labels.nearest(cut(item.strip()))
        found.append(names if names and distance <= FAR else (NONE,))
    return tuple(found)


def listed(text: str) -> list[str]:
    """The labels of a detection's answer or truth as the scorer splits them: at comma and blank; "None" is none."""
    return [] if text.lower() == NONE.lower() else text.split(", ")


def species(labels: Iterable[str]) -> list[str]:
    """The labels that a detection is scored over: the items of all that are not "None", sorted."""
    return sorted({item for label in labels if label.lower() != NONE.lower() for item in items(label)})
