"""Which example stands at position i of the endless training stream: a pure function of (seed, i), without state.

Positions are dealt to groups in a fixed pattern whose every prefix keeps the groups' shares (each within one example),
and inside a group every epoch is its own permutation, computed per element by a Feistel network. So any position costs
the same, whatever the number of examples, and none is stored.
"""

import collections
import dataclasses
import fnmatch
import functools

import numpy as np
from jaxtyping import Int, UInt64

from nlm_jax.core.errors import UserError
from nlm_jax.data.config import MixtureConfig
from nlm_jax.data.corpus import Corpus

PERIOD = 65_536  # positions after which the pattern of groups repeats: shares are kept to 1 in 65,536
ROUNDS = 8


@dataclasses.dataclass(frozen=True)
class Group:
    """Examples that are drawn with one share."""

    name: str
    weight: float
    size: int
    members: Int[np.ndarray, "N"] | None = None
    """Numbers of its examples in the corpus; None = all of them."""


class Stream:
    """The training stream of `groups` under `seed`."""

    def __init__(self, groups: list[Group], seed: int):
        used = [g for g in groups if g.weight > 0]
        if not used:
            raise UserError("data.mixture: every weight is 0; at least one group must be drawn")
        if len(used) > PERIOD:
            raise UserError(f"data.mixture: {len(used)} groups of source, domain and task; at most {PERIOD}")
        self.groups, self.seed = used, seed
        self._count = _shares(np.asarray([g.weight for g in used]))
        self._group, self._rank = _pattern(self._count)

    @property
    def shares(self) -> dict[str, float]:
        """Share of the stream that each group gets."""
        return {g.name: float(c) / PERIOD for g, c in zip(self.groups, self._count, strict=True)}

    def lookup(self, positions: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
        """Example number at each position."""
        turn, at = np.divmod(np.asarray(positions, np.int64), PERIOD)
        group = self._group[at]
        drawn = turn * self._count[group] + self._rank[at]  # how many of its group came before
        out = np.empty_like(drawn)
        for g in np.unique(group):
            here, one = group == g, self.groups[g]
            epoch, index = np.divmod(drawn[here], one.size)
            key = mix64(np.uint64(g) + mix64(epoch.astype(np.uint64) + mix64(np.asarray([self.seed], np.uint64))))
            index = permute(index, one.size, key)
            out[here] = index if one.members is None else one.members[index]
        return out


def groups_of(corpus: Corpus, mixture: MixtureConfig) -> list[Group]:
    """Groups of (source, domain, task) with their weights; a single group when `mixture` is empty.

    Raises:
      UserError: a name that is not in the corpus, a domain without a share, a negative weight.
    """
    if not (mixture.domain or mixture.task or mixture.source):
        return [Group("all", 1.0, len(corpus))]
    _check(corpus, mixture)
    code = (corpus.part_of.astype(np.int64) * len(corpus.domains) + corpus.domain) * len(corpus.tasks) + corpus.task
    present, inverse, size = np.unique(code, return_inverse=True, return_counts=True)
    order = np.argsort(inverse, kind="stable")
    members = np.split(order, np.cumsum(size)[:-1])
    natural, domain_of, names = [], [], []
    for value, n in zip(present, size, strict=True):
        rest, task = divmod(int(value), len(corpus.tasks))
        source, domain = divmod(rest, len(corpus.domains))
        names.append(f"{corpus.sources[source]}/{corpus.domains[domain]}/{corpus.tasks[task]}")
        domain_of.append(corpus.domains[domain])
        natural.append(n * _factor(mixture.task, corpus.tasks[task]) * _factor(mixture.source, corpus.sources[source]))
    weights = list(natural)
    if mixture.domain:
        total: dict[str, float] = collections.defaultdict(float)
        for domain, weight in zip(domain_of, natural, strict=True):
            total[domain] += weight
        empty = [d for d, share in mixture.domain.items() if share and not total[d]]
        if empty:
            raise UserError(f"data.mixture.domain.{empty[0]}: has a share, but its tasks and sources all have factor 0")
        weights = [
            mixture.domain[d] * w / total[d] if total[d] else 0.0 for d, w in zip(domain_of, natural, strict=True)
        ]
    return [Group(*g) for g in zip(names, map(float, weights), map(int, size), members, strict=True)]


def _check(corpus: Corpus, mixture: MixtureConfig) -> None:
    missing = [
        d
        for d in corpus.domains
        if mixture.domain and d not in mixture.domain and (corpus.domain == corpus.domains.index(d)).any()
    ]
    if missing:
        raise UserError(
            f"data.mixture.domain: no share for {', '.join(missing)}; give every domain one, 0 leaves it out"
        )
    for field, known in (("domain", corpus.domains), ("task", corpus.tasks), ("source", corpus.sources)):
        for name, weight in getattr(mixture, field).items():
            if not any(fnmatch.fnmatchcase(k, name) for k in known):
                raise UserError(f"data.mixture.{field}.{name}: not in the data; it has {', '.join(sorted(known))}")
            if not 0 <= weight < float("inf"):
                raise UserError(f"data.mixture.{field}.{name}: {weight} is no weight; use 0 or more")


def _factor(weights: dict[str, float], name: str) -> float:
    return next((w for pattern, w in weights.items() if fnmatch.fnmatchcase(name, pattern)), 1.0)


def _shares(weights: np.ndarray) -> Int[np.ndarray, "N"]:
    """Whole numbers of positions per period, proportional to `weights` (largest remainders), at least one each."""
    exact = weights / weights.sum() * PERIOD
    count = np.floor(exact).astype(np.int64)
    count[np.argsort(count - exact, kind="stable")[: PERIOD - int(count.sum())]] += 1
    for g in np.flatnonzero(count == 0):  # a share below 1 in PERIOD still gets its turn
        count[[np.argmax(count), g]] += (-1, 1)
    return count


def _pattern(count: Int[np.ndarray, "N"]) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"]]:
    """Group of every position of a period, and how many of that group came before it: each group evenly spread."""
    group = np.repeat(np.arange(len(count), dtype=np.int64), count)
    rank = np.arange(PERIOD, dtype=np.int64) - np.repeat(np.cumsum(count) - count, count)
    order = np.lexsort((group, (rank + 0.5) / count[group]))
    return group[order], rank[order]


def mix64(x: UInt64[np.ndarray, "..."]) -> UInt64[np.ndarray, "..."]:
    """A 64-bit hash (the finaliser of SplitMix64), element by element."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def permute(index: Int[np.ndarray, "N"], size: int, key: UInt64[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
    """Where a pseudo-random permutation of 0..size-1, one per key, sends each index.

    A Feistel network on the smallest square that holds `size`; what falls outside walks on until it is inside.
    """
    side = np.uint64(_side(size))
    out = index.astype(np.uint64)
    walking = np.arange(len(out))
    while len(walking):
        left, right = np.divmod(out[walking], side)
        for r in range(ROUNDS):
            left, right = (
                right,
                (left + mix64(key[walking] + mix64(right * np.uint64(ROUNDS) + np.uint64(r))) % side) % side,
            )
        out[walking] = left * side + right
        walking = walking[out[walking] >= size]
    return out.astype(np.int64)


@functools.cache
def _side(size: int) -> int:
    side = max(2, int(np.sqrt(size)))
    while side * side < size:
        side += 1
    return side
