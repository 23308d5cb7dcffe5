"""From free answers to labels: the nearest by edit distance, as the benchmark's scorer does it, with its ties shown.

That scorer walks a Python set, so where two labels are equally near its result moves with the hash seed. Here the first
in sorted order counts; `ties` gives the others.
"""

import dataclasses
import functools
from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

END_TOKENS = ("<|end_of_text|>", "<|eot_id|>")
NONE = "None"
FAR = 5
"""Largest distance at which a detected item still counts as a label."""


def cleaned(answer: str) -> str:
    """Without end tokens and outer blanks."""
    for token in END_TOKENS:
        answer = answer.replace(token, "")
    return answer.strip()


def items(text: str) -> list[str]:
    """The comma-separated items of an answer or a label."""
    return [item.strip() for item in text.split(",")]


@dataclasses.dataclass(frozen=True)
class Labels:
    """A label set in sorted order."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, names) -> "Labels":
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
    return labels.nearest(cleaned(answer))[1] or (cleaned(answer),)


def detected(answer: str, labels: Labels) -> tuple[tuple[str, ...], ...]:
    """The same for each item of an answer to a detection; an item far from every label is "None"."""
    found = []
    for item in items(cleaned(answer)):
        distance, names = labels.nearest(item)
        found.append(names if names and distance <= FAR else (NONE,))
    return tuple(found)


def chosen(options: Sequence[str], rank: int) -> str:
    """Of equally near labels the one at `rank` in sorted order; the last where there are fewer."""
    return options[min(rank, len(options) - 1)]
