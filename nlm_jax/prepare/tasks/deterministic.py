"""Random choices that depend on names alone: a seed, an example and a task, never on what came before."""

import hashlib
import heapq
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


def digest(*names: str) -> int:
    """A 64-bit digest of names."""
    text = "\0".join(names).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")


def generator(seed: int, *names: str) -> random.Random:
    """A random number generator for one purpose: equal arguments give equal numbers on every machine."""
    return random.Random(digest(str(seed), *names))


def distinct(items: Sequence[T], count: int, rng: random.Random, refuse: Callable[[T], bool]) -> list[T]:
    """A uniform sample of items without replacement, in random order; its time depends on `count` alone.

    Args:
      items: the population.
      count: size of the sample.
      rng: source of randomness.
      refuse: whether an item must not be in the sample.

    Returns:
      Up to `count` items. If most of many items are refused, there may be fewer than exist.
    """
    tries = 8 * count + 64
    sample: list[T] = []
    if len(items) <= tries:
        rest = list(items)
        while rest and len(sample) < count:
            index = int(rng.random() * len(rest))
            rest[index], rest[-1] = rest[-1], rest[index]
            if not refuse(item := rest.pop()):
                sample.append(item)
        return sample
    indices: set[int] = set()
    for _ in range(tries):
        index = int(rng.random() * len(items))
        if index not in indices and not refuse(items[index]):
            indices.add(index)
            sample.append(items[index])
            if len(sample) == count:
                break
    return sample


class Smallest(Generic[T]):
    """A sample of keyed entries that does not depend on the order of arrival: those with the smallest key digests.

    An entry that was dropped never comes back: the keys that displaced it stay or are displaced by smaller ones.
    """

    def __init__(self, capacity: int, create: Callable[[], T]):
        """An empty sample.

        Args:
          capacity: entries at most.
          create: a new entry.
        """
        self.capacity, self._create = capacity, create
        self._entries: dict[str, T] = {}
        self._heap: list[tuple[int, str]] = []  # the largest digest on top

    def at(self, key: str) -> T | None:
        """The entry of a key, created if it is new; None if the sample is full of keys with smaller digests."""
        if key in self._entries:
            return self._entries[key]
        order = digest(key)
        if len(self._entries) >= self.capacity:
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
        """The entry of a key; None if there is none."""
        return self._entries.get(key)

    def items(self) -> Iterator[tuple[str, T]]:
        """Keys and entries, sorted by key."""
        return iter(sorted(self._entries.items(), key=lambda item: item[0]))


def preferred_spelling(old: str, new: str) -> str:
    """The first of two spellings by the alphabet, whatever their order; the other one if one is empty."""
    return min(filter(None, (old, new)), default="")


def unique(names: Iterable[str]) -> list[str]:
    """The distinct names, sorted; names that differ in case alone are one."""
    spellings: dict[str, str] = {}
    for name in names:
        key = name.casefold()
        spellings[key] = preferred_spelling(spellings.get(key, ""), name)
    return [spellings[key] for key in sorted(spellings)]
