"""Random choices that depend on names alone: a seed, an example and a task, never on what came before."""

import hashlib
import heapq
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


def digest(*names: str) -> int:
    """A number of 64 bits that stands for `names`."""
    text = "\0".join(names).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")


def generator(seed: int, *names: str) -> random.Random:
    """Random numbers for one purpose: the same names give the same numbers, wherever and whenever."""
    return random.Random(digest(str(seed), *names))


def distinct(items: Sequence[T], count: int, rng: random.Random, refuse: Callable[[T], bool]) -> list[T]:
    """Up to `count` of `items` that are not refused, evenly, in random order; in time that goes with `count`.

    Where most of many items are refused, fewer than there are may be found.
    """
    dice, taken = rng.random, []
    if len(items) <= 8 * count + 64:
        left = list(items)
        while left and len(taken) < count:
            at = int(dice() * len(left))
            left[at], left[-1] = left[-1], left[at]
            if not refuse(item := left.pop()):
                taken.append(item)
        return taken
    seen: set[int] = set()
    for _ in range(8 * count + 64):
        at = int(dice() * len(items))
        if at not in seen and not refuse(items[at]):
            seen.add(at)
            taken.append(items[at])
            if len(taken) == count:
                break
    return taken


class Smallest(Generic[T]):
    """The entries of the `most` smallest keys' digests: a sample that does not depend on the order of arrival.

    An entry that was dropped can never come back, for the keys that displaced it stay or are displaced by smaller ones.
    """

    def __init__(self, most: int, create: Callable[[], T]):
        self.most, self._create = most, create
        self._entries: dict[str, T] = {}
        self._heap: list[tuple[int, str]] = []  # the largest digest on top

    def at(self, key: str) -> T | None:
        """The entry of `key`, made if it is new; None where the sample is full of smaller ones."""
        if key in self._entries:
            return self._entries[key]
        order = digest(key)
        if len(self._entries) >= self.most:
            if -self._heap[0][0] <= order:
                return None
            _, largest = heapq.heappop(self._heap)
            del self._entries[largest]
        heapq.heappush(self._heap, (-order, key))
        self._entries[key] = self._create()
        return self._entries[key]

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, key: str) -> T:
        return self._entries[key]

    def get(self, key: str) -> T | None:
        """The entry of `key`; None without one."""
        return self._entries.get(key)

    def items(self) -> Iterator[tuple[str, T]]:
        """Keys and entries, by key."""
        return iter(sorted(self._entries.items(), key=lambda item: item[0]))


def merged(old: str, new: str) -> str:
    """One of two spellings, whatever the order they come in: the first by the alphabet; one that is empty loses."""
    return min(filter(None, (old, new)), default="")


def unique(names: Iterable[str]) -> list[str]:
    """Names without repeats, upper and lower case being the same; sorted."""
    found: dict[str, str] = {}
    for name in names:
        key = name.casefold()
        found[key] = merged(found.get(key, ""), name)
    return [found[key] for key in sorted(found)]
