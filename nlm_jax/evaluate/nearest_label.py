"""From free text to labels: the nearest label by edit distance, as BEANS-Zero's scorer does it, with all its ties.

That scorer iterates over a Python set, so the choice between equally near labels depends on the hash seed. Here all
equally near labels are returned, in sorted order, and the first of them counts.
"""

import dataclasses
import functools
from collections.abc import Iterable

from rapidfuzz.distance import Levenshtein

from nlm_jax.data.schema import NONE

END = "<|end_of_text|>"
END_TOKENS = (END, "<|eot_id|>")
MAX_ITEM_DISTANCE = 5
"""Largest edit distance at which a detected item still counts as a label."""


def before_end_token(text: str) -> str:
    """The text before the end token, blanks kept: all the cleaning that BEANS-Zero's scorer does."""
    return text.split(END)[0]


def strip_end_tokens(text: str) -> str:
    """The text before the first end token of either kind, without outer blanks."""
    for token in END_TOKENS:
        text = text.split(token)[0]
    return text.strip()


def split_items(text: str) -> list[str]:
    """The comma-separated items of a response or a label."""
    return [item.strip() for item in text.split(",")]


@dataclasses.dataclass(frozen=True)
class LabelSet:
    """Labels in sorted order."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> "LabelSet":
        """The distinct labels of `names`."""
        return cls(tuple(sorted(set(names))))

    @functools.cached_property
    def name_set(self) -> frozenset[str]:
        """The labels, for membership tests."""
        return frozenset(self.names)

    def nearest(self, text: str) -> tuple[int, tuple[str, ...]]:
        """The smallest edit distance of `text` to a label, and every label at that distance, sorted."""
        return _nearest(self, text)


@functools.lru_cache(maxsize=1 << 16)
def _nearest(labels: LabelSet, text: str) -> tuple[int, tuple[str, ...]]:
    if text in labels.name_set:
        return 0, (text,)
    distances = [Levenshtein.distance(text, name) for name in labels.names]
    smallest = min(distances, default=0)
    return smallest, tuple(name for name, d in zip(labels.names, distances, strict=True) if d == smallest)


def match_label(text: str, labels: LabelSet) -> tuple[str, ...]:
    """The labels that the response to a classification may mean: one, or several equally near ones in sorted order."""
    text = before_end_token(text)
    return labels.nearest(text)[1] or (text,)


def match_items(text: str, labels: LabelSet) -> tuple[tuple[str, ...], ...]:
    """The nearest labels of each item of the response to a detection; an item far from every label is "None".

    A label may itself be a list ("Ovenbird, Blue Jay"): the scorer's label set contains the labels of the file as they
    are.
    """
    matches = []
    for item in text.split(","):
        distance, names = labels.nearest(before_end_token(item.strip()))
        matches.append(names if names and distance <= MAX_ITEM_DISTANCE else (NONE,))
    return tuple(matches)


def split_detection(text: str) -> list[str]:
    """The labels of a detection as the scorer splits them, at comma and blank; "None" is an empty list."""
    return [] if text.lower() == NONE.lower() else text.split(", ")


def scored_species(labels: Iterable[str]) -> list[str]:
    """The species that a detection is scored over: the items of all labels but "None", sorted."""
    return sorted({item for label in labels if label.lower() != NONE.lower() for item in split_items(label)})
