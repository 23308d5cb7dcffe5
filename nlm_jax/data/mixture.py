"""Groups of a corpus and their weights, by `MixtureConfig`: which examples are drawn, and with what share.

A group is the examples of one source, domain and task; what the groups' shares mean for positions of the stream is in
`train_stream`. Weights are made in this order: number of examples times the factors of their taxa; times the factors of
task and source; tempered; scaled to the shares of domains.
"""

import collections
import dataclasses
import difflib
import fnmatch
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from nlm_jax.core.errors import UserError
from nlm_jax.data import taxonomy
from nlm_jax.data.config import MixtureConfig
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.shuffle import mix64
from nlm_jax.data.train_stream import Cells, Group


class GroupKey(NamedTuple):
    """Names of what the examples of a group have in common."""

    source: str
    domain: str
    task: str


class SortedExamples(NamedTuple):
    """Drawable examples, sorted by source, domain, task and cell. Columns from `source` on have one entry a cell."""

    members: Int[np.ndarray, "N"]
    """Numbers of the examples in the corpus."""
    source: Int[np.ndarray, "C"]
    domain: Int[np.ndarray, "C"]
    task: Int[np.ndarray, "C"]
    first: Int[np.ndarray, "C"]
    """Where the cell begins in `members`."""
    size: Int[np.ndarray, "C"]
    """Number of its examples."""


def groups_of(corpus: Corpus, mixture: MixtureConfig, seed: int = 0) -> list[Group]:
    """Groups of (source, domain, task) with their weights; a single group if `mixture` is empty.

    Args:
      corpus: the examples.
      mixture: factors, shares, balance and cap.
      seed: of the choice of the examples that `species_cap` keeps.

    Raises:
      UserError: a name that is not in the corpus, a domain without a share, a negative weight, or missing taxa.
    """
    if mixture == MixtureConfig():
        return [Group("all", 1.0, len(corpus))]
    _check(corpus, mixture)
    # Species are balanced over all sources, unless sources have factors of their own.
    pooled = bool(mixture.balance) and not mixture.source and len(corpus.sources) > 1
    sources = ["*"] if pooled else corpus.sources
    factor = taxonomy.factors(corpus.taxa, mixture.taxon)
    table = _sort(corpus, mixture, sources, factor, _drawable(corpus, mixture, factor, seed))
    natural = table.size * _mean_factors(table, corpus, factor if mixture.taxon else None)
    in_group = {"": natural, "taxon": natural / table.size, "sqrt": natural / np.sqrt(table.size)}[mixture.balance]
    keys, groups, weights = [], [], []
    dims = (len(sources), len(corpus.domains), len(corpus.tasks))
    group_code = np.ravel_multi_index((table.source, table.domain, table.task), dims)
    first_cell = np.flatnonzero(np.diff(group_code, prepend=-1))
    for a, b in zip(first_cell, np.append(first_cell[1:], len(group_code)), strict=True):
        key = GroupKey(sources[table.source[a]], corpus.domains[table.domain[a]], corpus.tasks[table.task[a]])
        first, size = int(table.first[a]), int(table.size[a:b].sum())
        cells = Cells(table.size[a:b], in_group[a:b]) if b - a > 1 else None
        groups.append(Group("/".join(key), 0.0, size, table.members[first : first + size], cells))
        factors = _factor(mixture.task, key.task) * _factor(mixture.source, key.source)
        weights.append(float(natural[a:b].sum()) * factors)
        keys.append(key)
    weights = _scale_domains(mixture, keys, _temper(weights, keys, mixture.temperature))
    return [dataclasses.replace(group, weight=float(w)) for group, w in zip(groups, weights, strict=True)]


def _sort(
    corpus: Corpus,
    mixture: MixtureConfig,
    sources: Sequence[str],
    factor: Float[np.ndarray, "X"],
    drawable: Int[np.ndarray, "M"] | None,
) -> SortedExamples:
    """The drawable examples by group and cell. Cells are species if these are balanced, else taxa of one factor."""
    if mixture.balance:
        cell_of = taxonomy.species_codes(corpus.taxa)[1]
    else:
        cell_of = np.unique(factor, return_inverse=True)[1].astype(np.int32)
    source = corpus.part_of if len(sources) > 1 else np.broadcast_to(np.int32(0), len(corpus))
    dims = (len(sources), len(corpus.domains), len(corpus.tasks), int(cell_of.max()) + 1)
    code = np.ravel_multi_index((source, corpus.domain, corpus.task, cell_of[corpus.taxon]), dims)
    code = code if drawable is None else code[drawable]
    order = np.argsort(code, kind="stable")
    code = code[order]
    members = order.astype(np.int32) if len(corpus) < 1 << 31 else order
    members = members if drawable is None else drawable[members].astype(members.dtype)
    first = np.flatnonzero(np.diff(code, prepend=-1))
    source, domain, task, _ = np.unravel_index(code[first], dims)
    return SortedExamples(members, source, domain, task, first, np.diff(np.append(first, len(code))))


def _drawable(
    corpus: Corpus, mixture: MixtureConfig, factor: Float[np.ndarray, "X"], seed: int
) -> Int[np.ndarray, "M"] | None:
    """Examples with a factor above 0 and within the cap; None for all examples."""
    keep = (factor > 0)[corpus.taxon]
    if mixture.species_cap:
        names, species = taxonomy.species_codes(corpus.taxa)
        hashed = mix64(mix64(np.asarray([seed], np.uint64)) ^ np.arange(len(corpus), dtype=np.uint64))
        exempt = np.asarray([not name for name in names])
        keep &= taxonomy.within_cap(species[corpus.taxon], exempt, mixture.species_cap, hashed)
    if not keep.any():
        raise UserError("data.mixture.taxon: every example has factor 0; at least one must be drawn")
    return None if keep.all() else np.flatnonzero(keep)


def _mean_factors(
    table: SortedExamples, corpus: Corpus, factor: Float[np.ndarray, "X"] | None
) -> Float[np.ndarray, "C"]:
    """Mean factor of the examples of each cell; 1 if taxa have no factors."""
    if factor is None:
        return np.ones(len(table.size))
    return np.add.reduceat(factor[corpus.taxon[table.members]], table.first) / table.size


def _temper(weights: Sequence[float], keys: Sequence[GroupKey], temperature: float) -> list[float]:
    """Weights after each (domain, task) got weight^(1/T); its sources keep their parts of it."""
    if temperature == 1.0:
        return list(weights)
    total: dict[tuple[str, str], float] = collections.defaultdict(float)
    for key, weight in zip(keys, weights, strict=True):
        total[key[1:]] += weight
    most = max(total.values())  # keeps powers of any size in range
    return [
        (total[key[1:]] / most) ** (1.0 / temperature) * (w / total[key[1:]]) if w else w
        for key, w in zip(keys, weights, strict=True)
    ]


def _scale_domains(mixture: MixtureConfig, keys: Sequence[GroupKey], weights: Sequence[float]) -> Sequence[float]:
    """Weights normalised to the shares of `mixture.domain`."""
    if not mixture.domain:
        return weights
    total: dict[str, float] = collections.defaultdict(float)
    for key, weight in zip(keys, weights, strict=True):
        total[key.domain] += weight
    empty = [d for d, share in mixture.domain.items() if share and not total[d]]
    if empty:
        raise UserError(
            f"data.mixture.domain.{empty[0]}: has a share, but its tasks, sources and taxa all have factor 0"
        )
    return [
        mixture.domain[key.domain] * w / total[key.domain] if total[key.domain] else 0.0
        for key, w in zip(keys, weights, strict=True)
    ]


def _factor(weights: dict[str, float], name: str) -> float:
    """The weight of the first pattern that matches `name`; 1 if none does."""
    return next((w for pattern, w in weights.items() if fnmatch.fnmatchcase(name, pattern)), 1.0)


def _check(corpus: Corpus, mixture: MixtureConfig) -> None:
    """UserError if a domain has no share, taxa are missing, or a name or weight is wrong."""
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
            taxonomy.check_taxa(corpus.taxa, field)
    taxa = sorted({name for lineage in corpus.taxa for name in taxonomy.names_in(lineage)}) if mixture.taxon else []
    names = {"domain": corpus.domains, "task": corpus.tasks, "source": corpus.sources, "taxon": taxa}
    for field, present in names.items():
        for pattern, weight in getattr(mixture, field).items():
            if not any(fnmatch.fnmatchcase(name, pattern) for name in present):
                raise UserError(f"data.mixture.{field}.{pattern}: not in the data; {_suggestion(pattern, present)}")
            if not 0 <= weight < float("inf"):
                raise UserError(f"data.mixture.{field}.{pattern}: {weight} is not a weight; use 0 or more")


def _suggestion(name: str, present: Sequence[str]) -> str:
    """The closest of the names that are present, or the first of them."""
    folded = {k.casefold(): k for k in present}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    if close:
        return f"did you mean {folded[close[0]]!r}?"
    more = f" and {len(present) - 12} more" if len(present) > 12 else ""
    return f"it has {', '.join(sorted(present)[:12])}{more}"
