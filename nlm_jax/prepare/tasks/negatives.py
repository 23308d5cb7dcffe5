"""The taxa of a corpus, from which wrong candidates are sampled: relatives (hard), unrelated ones (easy), or any."""

import collections
import dataclasses
import functools
import random
from collections.abc import Collection, Mapping

from nlm_jax.prepare.tasks.deterministic import Smallest, distinct, preferred_spelling, unique
from nlm_jax.prepare.tasks.fields import TAXONOMY, clean, ranks, scientific_name

KINDS = ("common_name", "scientific_name", "taxonomic_name", "genus", "family", "order")
"""Fields with names of taxa: a list of candidates is of one kind."""
HARD, EASY = ("family", "order", "phylum"), ("order", "family", "genus")
"""Ranks that hard candidates share with a taxon, and that easy ones do not."""
RANDOM_SHARE = 0.3
"""Share of the prompts with mixed negatives whose negatives are sampled from all taxa (the paper's 30 %)."""
MAX_TAXA = 100_000


@dataclasses.dataclass
class Taxon:
    """A species: its names and the ranks above it, "" if unknown."""

    common_name: str = ""
    scientific_name: str = ""
    above: dict[str, str] = dataclasses.field(default_factory=dict)
    """Rank -> name, of the known ones of phylum to genus."""
    held_out: bool = False
    """Whether it is excluded from training, also as a wrong candidate."""

    @classmethod
    def of(cls, values: Mapping[str, str]) -> "Taxon":
        """The taxon of a recording, by its fields (`fields.fields`)."""
        above = {rank: values[rank] for rank in TAXONOMY if rank in values}
        return cls(values.get("common_name", ""), values.get("scientific_name", ""), above)

    def name(self, kind: str) -> str:
        """Its name of a kind of `KINDS`; "" if that is not known."""
        if kind in TAXONOMY:
            return self.above.get(kind, "")
        if kind == "taxonomic_name":
            names = [self.above.get(rank, "") for rank in TAXONOMY]
            return " ".join([*names[:-1], self.scientific_name]) if all(names) and self.scientific_name else ""
        return getattr(self, kind)


class Taxa:
    """Species by scientific name (by common name if there is no other).

    The content does not depend on the order in which species are added.
    """

    def __init__(self, capacity: int = MAX_TAXA):
        """An empty set of at most `capacity` species; of more, those with the smallest digests of their names stay."""
        self._taxa: Smallest[Taxon] = Smallest(capacity, Taxon)

    def __len__(self) -> int:
        return len(self._taxa)

    def add(self, facts: Mapping[str, str], held_out: bool = False) -> None:
        """Adds the species of a recording. Of two spellings of a name the first by the alphabet stays.

        Args:
          facts: of the recording.
          held_out: whether the species is excluded from training.
        """
        common, scientific = clean(facts.get("common_name", "")), scientific_name(facts)
        if scientific.casefold() == common.casefold():
            common = ""
        if not (common or scientific) or (taxon := self._taxa.at((scientific or common).casefold())) is None:
            return
        taxon.common_name = preferred_spelling(taxon.common_name, common)
        taxon.scientific_name = preferred_spelling(taxon.scientific_name, scientific)
        taxon.held_out |= held_out
        for rank, name in ranks(facts).items():
            taxon.above[rank] = preferred_spelling(taxon.above.get(rank, ""), name)
        self.__dict__.pop("_index", None)

    def find(self, name: str) -> Taxon | None:
        """The species with a common or scientific name, in any case; None if there is none."""
        key = clean(name).casefold()
        return self._taxa.get(key) or self._taxa.get(self._index.scientific.get(key, ""))

    def negatives(
        self, kind: str, taxon: Taxon, exclude: Collection[str], count: int, method: str, rng: random.Random
    ) -> list[str]:
        """Names of other taxa, without those held out.

        Args:
          kind: of names, one of `KINDS`.
          taxon: the right one.
          exclude: further names that are not wrong.
          count: names at most.
          method: "random"; "hard" (names that share the family, order or phylum of the taxon, the first of these, in
            random order, with any; random ones if it has no relatives); "easy" (of another order, or of another family
            or genus if there is only one); "mixed" (random in 30 % of the calls, else hard).
          rng: source of randomness.
        """
        excluded = {name.casefold() for name in exclude}
        if method == "mixed":
            method = "random" if rng.random() < RANDOM_SHARE else "hard"
        if method == "easy":
            return self._unrelated(kind, taxon, excluded, count, rng)
        if method == "hard" and (names := self._relatives(kind, taxon, excluded, count, rng)):
            return names
        return distinct(self._index.names.get(kind, []), count, rng, lambda name: name.casefold() in excluded)

    def _relatives(
        self, kind: str, taxon: Taxon, excluded: Collection[str], count: int, rng: random.Random
    ) -> list[str]:
        for rank in rng.sample(HARD, len(HARD)):
            if rank == kind:
                continue
            related = self._index.below.get((kind, rank, taxon.above.get(rank, "")), [])
            if names := distinct(related, count, rng, lambda name: name.casefold() in excluded):
                return names
        return []

    def _unrelated(
        self, kind: str, taxon: Taxon, excluded: Collection[str], count: int, rng: random.Random
    ) -> list[str]:
        for rank in filter(taxon.above.get, EASY):
            every = self._index.ranked.get((kind, rank), [])
            related = self._index.related(kind, rank, taxon.above[rank])

            def refuse(name: str, related: Collection[str] = related) -> bool:
                return name.casefold() in related or name.casefold() in excluded

            if names := distinct(every, count, rng, refuse):
                return names
        return []

    @functools.cached_property
    def _index(self) -> "_Index":
        taxa = [taxon for _, taxon in self._taxa.items()]
        return _Index(taxa)


class _Index:
    """Names by kind, and by kind and ancestor, each list sorted; without taxa held out."""

    def __init__(self, taxa: list[Taxon]):
        self.scientific: dict[str, str] = {}
        """Common name -> scientific name, in lower case, of all taxa."""
        for taxon in taxa:
            if taxon.common_name and taxon.scientific_name:
                self.scientific.setdefault(taxon.common_name.casefold(), taxon.scientific_name.casefold())
        names, below = collections.defaultdict(list), collections.defaultdict(list)
        ranked = collections.defaultdict(list)
        for taxon in taxa:
            for kind in KINDS if not taxon.held_out else ():
                name = taxon.name(kind)
                if not name or "," in name:  # a comma would split a list of candidates
                    continue
                names[kind].append(name)
                for rank in {*HARD, *EASY}:
                    if ancestor := taxon.above.get(rank):
                        below[kind, rank, ancestor].append(name)
                        ranked[kind, rank].append(name)
        self.names = {key: unique(listed) for key, listed in names.items()}
        """Kind -> names."""
        self.below = {key: unique(listed) for key, listed in below.items()}
        """(kind, rank, ancestor) -> names below the ancestor."""
        self.ranked = {key: unique(listed) for key, listed in ranked.items()}
        """(kind, rank) -> names of taxa whose ancestor of that rank is known."""
        self._related: dict[tuple[str, str, str], frozenset[str]] = {}

    def related(self, kind: str, rank: str, ancestor: str) -> frozenset[str]:
        """Names below an ancestor, in lower case."""
        key = (kind, rank, ancestor)
        if key not in self._related:
            self._related[key] = frozenset(name.casefold() for name in self.below.get(key, []))
        return self._related[key]
