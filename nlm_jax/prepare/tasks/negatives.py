"""The taxa of a corpus, from which wrong answers are drawn: near relatives, strangers, or anybody."""

import collections
import dataclasses
import functools
import random
from collections.abc import Collection, Mapping

from nlm_jax.prepare.tasks.deterministic import Smallest, distinct, merged, unique
from nlm_jax.prepare.tasks.fields import TAXONOMY, clean, ranks, scientific_name

KINDS = ("common_name", "scientific_name", "taxonomic_name", "genus", "family", "order")
"""What a taxon may be called by in a list of candidates."""
HARD, EASY = ("family", "order", "phylum"), ("order", "family", "genus")
RANDOM_SHARE = 0.3
"""Of the prompts with mixed negatives, those whose negatives are drawn from all taxa (the paper's 30 %)."""
MOST = 100_000


@dataclasses.dataclass
class Taxon:
    """A species: its names and the ranks above it, "" where unknown."""

    common_name: str = ""
    scientific_name: str = ""
    above: dict[str, str] = dataclasses.field(default_factory=dict)
    held_out: bool = False
    """Whether it must not be heard of in training, not even as a wrong answer."""

    @classmethod
    def of(cls, known: Mapping[str, str]) -> "Taxon":
        """The taxon of a recording, by its `fields.fields`."""
        above = {rank: known[rank] for rank in TAXONOMY if rank in known}
        return cls(known.get("common_name", ""), known.get("scientific_name", ""), above)

    def name(self, kind: str) -> str:
        """What it is called, for a kind of `KINDS`; "" where that is not known."""
        if kind in TAXONOMY:
            return self.above.get(kind, "")
        if kind == "taxonomic_name":
            known = [self.above.get(rank, "") for rank in TAXONOMY]
            return " ".join([*known[:-1], self.scientific_name]) if all(known) and self.scientific_name else ""
        return getattr(self, kind)


class Taxa:
    """Species by scientific name (by common name where there is no other), at most `most` of them.

    What is in it depends on what was added, not on the order; which of too many stay is decided by their names.
    """

    def __init__(self, most: int = MOST):
        self._taxa: Smallest[Taxon] = Smallest(most, Taxon)

    def __len__(self) -> int:
        return len(self._taxa)

    def add(self, facts: Mapping[str, str], held_out: bool = False) -> None:
        """The species that `facts` are about. Of two spellings of a name the first by the alphabet stays."""
        common, scientific = clean(facts.get("common_name", "")), scientific_name(facts)
        if scientific.casefold() == common.casefold():
            common = ""
        if not (common or scientific) or (taxon := self._taxa.at((scientific or common).casefold())) is None:
            return
        taxon.common_name = merged(taxon.common_name, common)
        taxon.scientific_name = merged(taxon.scientific_name, scientific)
        taxon.held_out |= held_out
        for rank, name in ranks(facts).items():
            taxon.above[rank] = merged(taxon.above.get(rank, ""), name)
        self.__dict__.pop("_index", None)

    def find(self, name: str) -> Taxon | None:
        """The species called `name`, by either of its names in any case."""
        key = clean(name).casefold()
        return self._taxa.get(key) or self._taxa.get(self._index.common.get(key, ""))

    def negatives(
        self, kind: str, taxon: Taxon, exclude: Collection[str], count: int, how: str, rng: random.Random
    ) -> list[str]:
        """Up to `count` names of a kind that are not in `exclude`, nor held out.

        `how`: "random"; "hard" (those that share the family, order or phylum with `taxon`, whichever of these the dice
        say and has any); "easy" (of another order, or family or genus where there is but one); "mixed" (random in 30 %
        of the draws, hard otherwise). Hard ones fall back to random where it has no relatives.
        """
        refused = {name.casefold() for name in exclude}
        index = self._index
        if how == "mixed":
            how = "random" if rng.random() < RANDOM_SHARE else "hard"
        if how == "hard":
            for rank in rng.sample(HARD, len(HARD)):
                if rank == kind:
                    continue
                near = index.of.get((kind, rank, taxon.above.get(rank, "")), [])
                if found := distinct(near, count, rng, lambda name: name.casefold() in refused):
                    return found
        if how == "easy":
            for rank in EASY:
                strangers = index.ranked.get((kind, rank), []) if taxon.above.get(rank) else []
                near = index.near(kind, rank, taxon.above.get(rank, ""))
                found = distinct(
                    strangers, count, rng, lambda n, near=near: n.casefold() in near or n.casefold() in refused
                )
                if found:
                    return found
            return []
        return distinct(index.names.get(kind, []), count, rng, lambda name: name.casefold() in refused)

    @functools.cached_property
    def _index(self) -> "_Index":
        taxa = [taxon for _, taxon in self._taxa.items()]
        return _Index([t for t in taxa if not t.held_out], taxa)


class _Index:
    """Names by kind, and by kind and ancestor, each list sorted."""

    def __init__(self, taxa: list[Taxon], every: list[Taxon]):
        self.common: dict[str, str] = {}
        for taxon in every:
            if taxon.common_name and taxon.scientific_name:
                self.common.setdefault(taxon.common_name.casefold(), taxon.scientific_name.casefold())
        names, of = collections.defaultdict(list), collections.defaultdict(list)
        ranked = collections.defaultdict(list)
        for taxon in taxa:
            for kind in KINDS:
                name = taxon.name(kind)
                if not name or "," in name:  # a comma would split a list of candidates
                    continue
                names[kind].append(name)
                for rank in {*HARD, *EASY}:
                    if ancestor := taxon.above.get(rank):
                        of[kind, rank, ancestor].append(name)
                        ranked[kind, rank].append(name)
        self.names = {key: unique(found) for key, found in names.items()}
        self.of = {key: unique(found) for key, found in of.items()}
        self.ranked = {key: unique(found) for key, found in ranked.items()}
        self._near: dict[tuple[str, str, str], frozenset[str]] = {}

    def near(self, kind: str, rank: str, ancestor: str) -> frozenset[str]:
        """Names below an ancestor, in lower case."""
        key = (kind, rank, ancestor)
        if key not in self._near:
            self._near[key] = frozenset(name.casefold() for name in self.of.get(key, []))
        return self._near[key]
