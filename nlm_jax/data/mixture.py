"""Which example stands at position i of the endless training stream: a pure function of (seed, i), without state.

Positions are dealt to groups in a fixed pattern whose every prefix keeps the groups' shares (each within one example),
and inside a group every epoch is its own permutation, computed per element by a Feistel network. A group whose species
have shares of their own consists of cells: its rounds give every cell its turns, in an order that is permuted anew each
round, and inside a cell every epoch is a permutation again. So any position costs the same, whatever the number of
examples and species, and none is stored.
"""

import collections
import dataclasses
import difflib
import fnmatch

import numpy as np
from jaxtyping import Float, Int, UInt64

from nlm_jax.core.errors import UserError
from nlm_jax.data import taxonomy
from nlm_jax.data.config import MixtureConfig
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.shuffle import mix64, permute, sides

PERIOD = 65_536  # positions after which the pattern of groups repeats: shares are kept to 1 in 65,536
ROUND, TURNS = 4096, 64  # turns in a round whose cells have different shares: at least so many, and so many per cell


@dataclasses.dataclass(frozen=True)
class Cells:
    """Parts of a group that have shares of their own inside it."""

    sizes: Int[np.ndarray, "C"]
    """Examples of each; the group's members stand cell by cell."""
    weights: Float[np.ndarray, "C"]


@dataclasses.dataclass(frozen=True)
class Group:
    """Examples that are drawn with one share."""

    name: str
    weight: float
    size: int
    members: Int[np.ndarray, "N"] | None = None
    """Numbers of its examples in the corpus; None = all of them."""
    cells: Cells | None = None
    """None = every member equally often."""


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
        # Cells of all groups in one row: sizes, turns, where the members of each begin, and the name in its keys.
        sizes = [np.asarray([g.size]) if g.cells is None else g.cells.sizes for g in used]
        turns = [np.ones(1, np.int64) if g.cells is None else _turns(g.cells.weights) for g in used]
        many = np.asarray([len(s) for s in sizes])
        self._first, self._round = np.cumsum(many) - many, np.asarray([int(t.sum()) for t in turns])
        self._size, self._turns = np.concatenate(sizes).astype(np.int64), np.concatenate(turns)
        self._side, self._turned = sides(self._size), np.cumsum(self._turns)
        self._begun = self._turned - self._turns
        number = np.arange(len(self._size)) - np.repeat(self._first, many)
        number[np.repeat(many == 1, many)] = -1
        owner = np.repeat(np.arange(len(used)), many)
        self._name = owner.astype(np.uint64) + ((number + 1).astype(np.uint64) << np.uint64(20))
        stored = [np.zeros(0, np.int32) if g.members is None else g.members for g in used]
        self._members = stored[0] if len(stored) == 1 else np.concatenate(stored)
        held = np.where([g.members is None for g in used], 0, [g.size for g in used])
        begin = np.cumsum(held) - held
        self._begin = begin[owner] + _within(self._size, self._first, many)
        self._whole = np.asarray([g.members is None for g in used])[owner]

    @property
    def shares(self) -> dict[str, float]:
        """Share of the stream that each group gets."""
        return {g.name: float(c) / PERIOD for g, c in zip(self.groups, self._count, strict=True)}

    def passes(self, draws: float) -> list[tuple[Group, Float[np.ndarray, "C"]]]:
        """Per group how often the examples of each of its cells (one without cells) come in `draws` positions."""
        out = []
        for g, group in enumerate(self.groups):
            cells = slice(self._first[g], self._first[g] + (1 if group.cells is None else len(group.cells.sizes)))
            drawn = draws * self._count[g] / PERIOD * self._turns[cells] / self._round[g]
            out.append((group, drawn / self._size[cells]))
        return out

    def lookup(self, positions: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
        """Example number at each position."""
        turn, at = np.divmod(np.asarray(positions, np.int64), PERIOD)
        group = self._group[at]
        nth = turn * self._count[group] + self._rank[at]  # how many of its group, then of its cell, came before
        cell = self._first[group]
        dealt = np.flatnonzero(self._round[group] > 1)
        if dealt.size:
            g = group[dealt]
            lap, index = np.divmod(nth[dealt], self._round[g])
            index = permute(index, self._round[g], self._key(g.astype(np.uint64) + np.uint64(1 << 63), lap))
            index += self._begun[cell[dealt]]
            cell[dealt] = np.searchsorted(self._turned, index, side="right")
            nth[dealt] = lap * self._turns[cell[dealt]] + index - self._begun[cell[dealt]]
        size = self._size[cell]
        epoch, index = np.divmod(nth, size)
        index = permute(index, size, self._key(self._name[cell], epoch), self._side[cell])
        held = np.flatnonzero(~self._whole[cell])
        index[held] = self._members[self._begin[cell[held]] + index[held]]
        return index

    def _key(self, name: UInt64[np.ndarray, "N"], epoch: Int[np.ndarray, "N"]) -> UInt64[np.ndarray, "N"]:
        with np.errstate(over="ignore"):
            return mix64(name + mix64(epoch.astype(np.uint64) + mix64(np.asarray([self.seed], np.uint64))))


def groups_of(corpus: Corpus, mixture: MixtureConfig, seed: int = 0) -> list[Group]:
    """Groups of (source, domain, task) with their weights; a single group when `mixture` is empty.

    Args:
      seed: draws the examples that `species_cap` keeps.

    Raises:
      UserError: a name that is not in the corpus, a domain without a share, a negative weight, taxa that are missing.
    """
    if mixture == MixtureConfig():
        return [Group("all", 1.0, len(corpus))]
    _check(corpus, mixture)
    factor, cell_of = _cells(corpus, mixture)
    kept = _kept(corpus, mixture, factor, seed)
    parts = len(corpus.sources) if mixture.source or not mixture.balance else 1
    code = np.zeros(len(corpus), np.int64) if parts == 1 else corpus.part_of.astype(np.int64)
    code *= len(corpus.domains)
    code += corpus.domain
    code *= len(corpus.tasks)
    code += corpus.task
    code *= int(cell_of.max()) + 1
    code += cell_of[corpus.taxon]
    code = code if kept is None else code[kept]
    order = np.argsort(code, kind="stable")
    code = code[order]
    begin = np.flatnonzero(np.diff(code, prepend=-1))  # of every cell
    code, size = code[begin] // (int(cell_of.max()) + 1), np.diff(np.append(begin, len(order)))
    members = order.astype(np.int32) if len(corpus) < 1 << 31 else order
    members = members if kept is None else kept[members].astype(members.dtype)
    natural = size * _means(factor[corpus.taxon[members]] if mixture.taxon else None, begin, size)
    inside = {"": natural, "taxon": natural / size, "sqrt": natural / np.sqrt(size)}[mixture.balance]
    groups, weights, domain_of, cell_in = [], [], [], []
    first = np.flatnonzero(np.diff(code, prepend=-1))
    for a, b in zip(first, np.append(first[1:], len(code)), strict=True):
        rest, task = divmod(int(code[a]), len(corpus.tasks))
        source, domain = divmod(rest, len(corpus.domains))
        named = corpus.sources[source] if parts == len(corpus.sources) else "*"
        n, at = int(size[a:b].sum()), int(begin[a])
        cells = Cells(size[a:b], inside[a:b]) if b - a > 1 else None
        groups.append(
            Group(f"{named}/{corpus.domains[domain]}/{corpus.tasks[task]}", 0.0, n, members[at : at + n], cells)
        )
        domain_of.append(corpus.domains[domain])
        cell_in.append((domain, task))
        given = _factor(mixture.task, corpus.tasks[task])
        if parts == len(corpus.sources):
            given *= _factor(mixture.source, corpus.sources[source])
        weights.append(float(natural[a:b].sum()) * given)
    weights = _domains(mixture, domain_of, _tempered(weights, cell_in, mixture.temperature))
    return [dataclasses.replace(g, weight=float(w)) for g, w in zip(groups, weights, strict=True)]


def _cells(corpus: Corpus, mixture: MixtureConfig) -> tuple[Float[np.ndarray, "X"], Int[np.ndarray, "X"]]:
    """Per taxon its factor and its cell: the species where they are balanced, else taxa of one factor."""
    factor = taxonomy.factors(corpus.taxa, mixture.taxon)
    if mixture.balance:
        return factor, taxonomy.species_codes(corpus.taxa)[1]
    return factor, np.unique(factor, return_inverse=True)[1].astype(np.int32)


def _kept(corpus: Corpus, mixture: MixtureConfig, factor, seed: int) -> Int[np.ndarray, "M"] | None:
    """Examples with a factor above 0 and within the cap; None for all of them."""
    keep = (factor > 0)[corpus.taxon]
    if mixture.species_cap:
        names, species = taxonomy.species_codes(corpus.taxa)
        hashed = mix64(mix64(np.asarray([seed], np.uint64)) ^ np.arange(len(corpus), dtype=np.uint64))
        free = np.asarray([not name for name in names])
        keep &= taxonomy.capped(species[corpus.taxon], free, mixture.species_cap, hashed)
    if not keep.any():
        raise UserError("data.mixture.taxon: every example has factor 0; at least one must be drawn")
    return None if keep.all() else np.flatnonzero(keep)


def _means(values, begin, size) -> Float[np.ndarray, "C"]:
    """Mean of `values` over each cell; 1 where there are none."""
    return np.ones(len(size)) if values is None else np.add.reduceat(values, begin) / size


def _tempered(weights: list[float], cells: list[tuple[int, int]], temperature: float) -> list[float]:
    """Weights of groups after each (domain, task) got weight^(1/T); sources keep their parts of it."""
    total: dict[tuple[int, int], float] = collections.defaultdict(float)
    for cell, weight in zip(cells, weights, strict=True):
        total[cell] += weight
    most = max(total.values())  # keeps powers of any size in range
    return [
        w if temperature == 1.0 or not w else (total[c] / most) ** (1.0 / temperature) * (w / total[c])
        for c, w in zip(cells, weights, strict=True)
    ]


def _domains(mixture: MixtureConfig, domain_of: list[str], weights: list[float]) -> list[float]:
    """Weights normalised to the shares of `mixture.domain`."""
    if not mixture.domain:
        return weights
    total: dict[str, float] = collections.defaultdict(float)
    for domain, weight in zip(domain_of, weights, strict=True):
        total[domain] += weight
    empty = [d for d, share in mixture.domain.items() if share and not total[d]]
    if empty:
        raise UserError(
            f"data.mixture.domain.{empty[0]}: has a share, but its tasks, sources and taxa all have factor 0"
        )
    return [mixture.domain[d] * w / total[d] if total[d] else 0.0 for d, w in zip(domain_of, weights, strict=True)]


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
    for field in ("taxon", "balance", "species_cap"):
        if getattr(mixture, field):
            taxonomy.need(corpus.taxa, field)
    ranks = sorted({name for lineage in corpus.taxa for name in taxonomy.names_in(lineage)}) if mixture.taxon else []
    for field, known in (
        ("domain", corpus.domains),
        ("task", corpus.tasks),
        ("source", corpus.sources),
        ("taxon", ranks),
    ):
        for name, weight in getattr(mixture, field).items():
            if not any(fnmatch.fnmatchcase(k, name) for k in known):
                raise UserError(f"data.mixture.{field}.{name}: not in the data; {_meant(name, known)}")
            if not 0 <= weight < float("inf"):
                raise UserError(f"data.mixture.{field}.{name}: {weight} is no weight; use 0 or more")


def _meant(name: str, known: list[str]) -> str:
    """The closest of `known`, or what there is of it."""
    folded = {k.casefold(): k for k in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    if close:
        return f"did you mean {folded[close[0]]!r}?"
    return f"it has {', '.join(sorted(known)[:12])}" + (f" and {len(known) - 12} more" if len(known) > 12 else "")


def _factor(weights: dict[str, float], name: str) -> float:
    return next((w for pattern, w in weights.items() if fnmatch.fnmatchcase(name, pattern)), 1.0)


def _turns(weights: Float[np.ndarray, "C"]) -> Int[np.ndarray, "C"]:
    """Turns of every cell in a round: one each where all weigh the same, else in proportion, at least one."""
    if np.ptp(weights) <= 1e-9 * weights.max():
        return np.ones(len(weights), np.int64)
    total = max(ROUND, TURNS * len(weights))
    return np.maximum(1, np.rint(weights / weights.sum() * total)).astype(np.int64)


def _within(size, first, many) -> Int[np.ndarray, "C"]:
    """Where each cell begins among the members of its group."""
    begin = np.cumsum(size) - size
    return begin - np.repeat(begin[first], many)


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
