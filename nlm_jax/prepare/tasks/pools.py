"""What a first pass over a corpus collects for its questions: taxa, other answers, and clips to compare with."""

import dataclasses
import fnmatch
import functools
import random
from collections.abc import Callable, Collection, Iterable, Mapping

from nlm_jax.data.schema import RANKS, Example
from nlm_jax.prepare.splits import recording
from nlm_jax.prepare.tasks.deterministic import Smallest, digest, distinct
from nlm_jax.prepare.tasks.fields import clean, fields, ranks, scientific_name, several
from nlm_jax.prepare.tasks.negatives import KINDS, Taxa, Taxon
from nlm_jax.prepare.tasks.schema import Task

VALUES, LABELS, CLIPS = 4096, 4096, 8
"""Other answers and labels that are kept of each field, and recordings of each label."""
HeldOut = Collection[str] | Callable[[Example], object]
"""Names of species, genera and families in any case, or a function that is true of examples about them."""
TEST_SPLITS = ("test*", "valid*", "val", "dev*", "eval*", "held*out*")
"""Splits that are asked in the test phrasings; all others, and examples without a split, in those of training."""
NAMING = ("common_name", "scientific_name", *RANKS, "subspecies")


@dataclasses.dataclass(frozen=True)
class Clip:
    """A recording with one label."""

    path: str
    recording: str
    label: str
    facts: Mapping[str, str]
    """Its names and ranks."""
    held_out: bool = False


def side_of(split: str) -> str:
    """Whether a split is asked in the "train" or the "test" phrasings."""
    return "test" if any(fnmatch.fnmatchcase(split.strip().lower(), p) for p in TEST_SPLITS) else "train"


def label_of(known: Mapping[str, str], field: str) -> str:
    """The one value of a field; "" where it has several, or where other species are heard beside a taxon."""
    if field in KINDS and known.get("others"):
        return ""
    label = known.get(field, "")
    return "" if "," in label else label


class ClipPool:
    """Clips by label, of one field and one split: `LABELS` labels of `CLIPS` recordings with a clip each."""

    def __init__(self, field: str):
        self.field = field
        self._labels: Smallest[Smallest[dict[str, Clip]]] = Smallest(LABELS, lambda: Smallest(CLIPS, dict))
        self._listed: dict[str, list[Clip]] = {}

    def add(self, clip: Clip) -> None:
        """Of a recording's clips the one stays whose name has the smallest digest. Add all before asking for any."""
        if (of := self._labels.at(clip.label.casefold())) is None or (held := of.at(clip.recording)) is None:
            return
        if "clip" not in held or digest(clip.path) < digest(held["clip"].path):
            held["clip"] = clip

    def clips(self, label: str, count: int, rng: random.Random, used: Collection[str]) -> list[Clip] | None:
        """`count` clips of a label, from as many recordings, none of them in `used`; None where there are fewer."""
        key = label.casefold()
        if key not in self._listed:
            of = self._labels.get(key)
            self._listed[key] = [held["clip"] for _, held in of.items()] if of else []
        found = [clip for clip in self._listed[key] if clip.recording not in used]
        return rng.sample(found, count) if len(found) >= count else None

    def others(self, known: Mapping[str, str], label: str, rng: random.Random) -> list[str]:
        """Other labels, those to take first at the front: relatives in 70 % of the draws where labels are taxa."""
        labels = self._names
        near: list[str] = []
        if self.field in KINDS:
            near = self._taxa.negatives(self.field, Taxon.of(known), (label,), 16, "mixed", rng)
        far = distinct(labels, 16, rng, lambda name: name.casefold() == label.casefold())
        return list({name.casefold(): name for name in (*near, *far)}.values())

    @functools.cached_property
    def _taxa(self) -> Taxa:
        taxa = Taxa()
        for _, of in self._labels.items():
            for _, held in of.items():
                taxa.add(held["clip"].facts, held["clip"].held_out)
        return taxa

    @functools.cached_property
    def _names(self) -> list[str]:
        """Labels that may be wrong answers."""
        every = ([held["clip"] for _, held in of.items()] for _, of in self._labels.items())
        return [min(clip.label for clip in clips) for clips in every if not any(clip.held_out for clip in clips)]


class Pools:
    """Everything that a question may take from other examples. It depends on which there are, not on their order."""

    def __init__(self, tasks: Iterable[Task], held_out: HeldOut | None = None):
        tasks = list(tasks)
        parts = [part for task in tasks for part in (task.options, task.ask) if part]
        self.taxa = Taxa()
        self._values: dict[str, Smallest[dict[str, str]]] = {
            part.of: Smallest(VALUES, dict) for part in parts if part.of not in KINDS
        }
        self._fields = sorted({field for task in tasks if task.clips for field in task.clips.of})
        self._held_out = held_out if callable(held_out) else frozenset(name.casefold() for name in held_out or ())
        self._clips: dict[tuple[str, str], ClipPool] = {}
        self._sorted: dict[str, list[str]] = {}

    @classmethod
    def collect(cls, examples: Iterable[Example], tasks: Iterable[Task], held_out: HeldOut | None = None) -> "Pools":
        """The pools that `tasks` need, of all `examples`."""
        pools = cls(tasks, held_out)
        for example in examples:
            pools.add(example)
        return pools

    def add(self, example: Example) -> None:
        """What an example has to offer; nothing where it has no facts."""
        if not example.facts:
            return
        known, held_out = fields(example.facts), self._is_held_out(example)
        self.taxa.add(example.facts, held_out)
        for field, values in self._values.items():
            for value in several(known.get(field, "")):
                if (spelling := values.at(value.casefold())) is not None:
                    spelling[""] = min(spelling.get("", value), value)
        if len(example.paths) != 1 or (held_out and side_of(example.split) == "train"):
            return
        for field in self._fields:
            if label := label_of(known, field):
                key = (example.split, field)
                if key not in self._clips:
                    self._clips[key] = ClipPool(field)
                names = {k: known[k] for k in ("common_name", "scientific_name", *RANKS[:-1]) if k in known}
                self._clips[key].add(Clip(example.paths[0], recording(example), label, names, held_out))

    def _is_held_out(self, example: Example) -> bool:
        if not self._held_out:
            return False
        facts = {key: example.facts[key] for key in NAMING if key in example.facts}
        if callable(self._held_out):  # asked about the species alone, not about what else is heard or written
            return bool(self._held_out(dataclasses.replace(example, facts=facts, label="", text="")))
        names = {clean(name).casefold() for name in facts.values()} | {scientific_name(facts).casefold()}
        names |= {name.casefold() for name in ranks(facts).values()}
        return not self._held_out.isdisjoint(names - {""})

    def clips(self, split: str, field: str) -> ClipPool | None:
        """Clips of a split with a label in a field; None without any."""
        return self._clips.get((split, field))

    def negatives(
        self, field: str, known: Mapping[str, str], exclude: Collection[str], count: int, how: str, rng: random.Random
    ) -> list[str]:
        """Up to `count` wrong values of a field, none in `exclude`; see `Taxa.negatives`."""
        if field in KINDS:
            own = self.taxa.find(known.get("scientific_name", "") or known.get("common_name", "")) or Taxon.of(known)
            return self.taxa.negatives(field, own, exclude, count, how, rng)
        if field not in self._sorted:
            found = [spelling[""] for _, spelling in self._values[field].items()]
            self._sorted[field] = [value for value in found if "," not in value]
        refused = {name.casefold() for name in exclude}
        return distinct(self._sorted[field], count, rng, lambda name: name.casefold() in refused)

    def names(self, text: str, field: str) -> list[str]:
        """What those of the species listed in `text` that the corpus knows are called in a field."""
        taxa = [taxon for taxon in map(self.taxa.find, several(text)) if taxon]
        return [name for name in (taxon.name(field) for taxon in taxa) if name]

    def described(self, facts: Mapping[str, str]) -> dict[str, str]:
        """`fields.fields`, and the names of all species heard, for which other examples must know them."""
        known = fields(facts)
        others = several(known.get("others", ""))
        for key, field in (("all_common_names", "common_name"), ("all_scientific_names", "scientific_name")):
            names = [known.get(field, ""), *self.names(known.get("others", ""), field)]
            if others and len(names) == len(others) + 1 and all(names):
                known[key] = ", ".join(several(",".join(names)))
        return known
