"""Results of a first pass over a corpus for its questions: taxa, values of other fields, and clips to compare."""

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

MAX_VALUES, MAX_LABELS, MAX_RECORDINGS = 4096, 4096, 8
"""Values and labels of each field, and recordings of each label."""
MAX_OTHERS = 16
"""Other labels of one question."""
HeldOut = Collection[str] | Callable[[Example], object]
"""Names of species, genera and families in any case, or a function that is true for examples about them."""
TEST_SPLITS = ("test*", "valid*", "val", "dev*", "eval*", "held*out*")
"""Splits whose questions use the test phrasings; others, and examples without a split, use those of training."""
NAME_FACTS = ("common_name", "scientific_name", *RANKS, "subspecies")


@dataclasses.dataclass(frozen=True)
class Clip:
    """A recording, or a part of it, with one label."""

    path: str
    recording: str
    """The recording that it is a part of."""
    label: str
    facts: Mapping[str, str]
    """Its names and ranks."""
    held_out: bool = False


def side_of(split: str) -> str:
    """Which phrasings the questions of a split use: "train" or "test"."""
    return "test" if any(fnmatch.fnmatchcase(split.strip().lower(), p) for p in TEST_SPLITS) else "train"


def label_of(values: Mapping[str, str], field: str) -> str:
    """The value of a field as a label; "" if it has several values, or is a taxon and other species are heard."""
    if field in KINDS and values.get("others"):
        return ""
    label = values.get(field, "")
    return "" if "," in label else label


class ClipPool:
    """Clips by label, of one field and one split: one of each of `MAX_RECORDINGS` recordings of `MAX_LABELS` labels."""

    def __init__(self, field: str):
        self.field = field
        self._labels: Smallest[Smallest[dict[str, Clip]]] = Smallest(MAX_LABELS, lambda: Smallest(MAX_RECORDINGS, dict))
        self._listed: dict[str, list[Clip]] = {}

    def add(self, clip: Clip) -> None:
        """Adds a clip; of one recording the clip with the smallest digest stays. Add all before taking any."""
        recordings = self._labels.at(clip.label.casefold())
        entry = recordings.at(clip.recording) if recordings is not None else None
        if entry is not None and ("clip" not in entry or digest(clip.path) < digest(entry["clip"].path)):
            entry["clip"] = clip

    def clips(self, label: str, count: int, rng: random.Random, used: Collection[str]) -> list[Clip] | None:
        """Random clips of a label, each of another recording.

        Args:
          label: in any case.
          count: clips.
          rng: source of randomness.
          used: recordings that are excluded.

        Returns:
          The clips; None if there are fewer than `count`.
        """
        key = label.casefold()
        if key not in self._listed:
            recordings = self._labels.get(key)
            self._listed[key] = _clips(recordings) if recordings else []
        available = [clip for clip in self._listed[key] if clip.recording not in used]
        return rng.sample(available, count) if len(available) >= count else None

    def others(self, values: Mapping[str, str], label: str, rng: random.Random) -> list[str]:
        """Other labels, by priority: if labels are taxa, relatives first in 70 % of the calls.

        Args:
          values: the fields of the recording.
          label: its label.
          rng: source of randomness.
        """
        related: list[str] = []
        if self.field in KINDS:
            related = self._taxa.negatives(self.field, Taxon.of(values), (label,), MAX_OTHERS, "mixed", rng)
        every = distinct(self._names, MAX_OTHERS, rng, lambda name: name.casefold() == label.casefold())
        return list({name.casefold(): name for name in (*related, *every)}.values())

    @functools.cached_property
    def _taxa(self) -> Taxa:
        taxa = Taxa()
        for _, recordings in self._labels.items():
            for clip in _clips(recordings):
                taxa.add(clip.facts, clip.held_out)
        return taxa

    @functools.cached_property
    def _names(self) -> list[str]:
        """Labels that may be wrong candidates."""
        every = (_clips(recordings) for _, recordings in self._labels.items())
        return [min(clip.label for clip in clips) for clips in every if not any(clip.held_out for clip in clips)]


def _clips(recordings: Smallest[dict[str, Clip]]) -> list[Clip]:
    return [entry["clip"] for _, entry in recordings.items()]


class Pools:
    """Values that questions use from other examples, independent of the order in which these are added."""

    def __init__(self, tasks: Iterable[Task], held_out: HeldOut | None = None):
        """Empty pools for some tasks, see `collect`."""
        tasks = list(tasks)
        parts = [part for task in tasks for part in (task.options, task.ask) if part]
        self.taxa = Taxa()
        self._values: dict[str, Smallest[dict[str, str]]] = {
            part.of: Smallest(MAX_VALUES, dict) for part in parts if part.of not in KINDS
        }
        self._fields = sorted({field for task in tasks if task.clips for field in task.clips.of})
        self._held_out = held_out if callable(held_out) else frozenset(name.casefold() for name in held_out or ())
        self._clips: dict[tuple[str, str], ClipPool] = {}
        self._sorted: dict[str, list[str]] = {}

    @classmethod
    def collect(cls, examples: Iterable[Example], tasks: Iterable[Task], held_out: HeldOut | None = None) -> "Pools":
        """The pools of a corpus.

        Args:
          examples: all of the corpus.
          tasks: those that will be generated.
          held_out: taxa that must not be wrong candidates in training.
        """
        pools = cls(tasks, held_out)
        for example in examples:
            pools.add(example)
        return pools

    def add(self, example: Example) -> None:
        """Adds the taxa, values and clip of an example; nothing if it has no facts."""
        if not example.facts:
            return
        field_values, held_out = fields(example.facts), self._is_held_out(example)
        self.taxa.add(example.facts, held_out)
        for field, values in self._values.items():
            for value in several(field_values.get(field, "")):
                if (spelling := values.at(value.casefold())) is not None:
                    spelling[""] = min(spelling.get("", value), value)
        if len(example.paths) != 1 or (held_out and side_of(example.split) == "train"):
            return
        for field in self._fields:
            if label := label_of(field_values, field):
                key = (example.split, field)
                if key not in self._clips:
                    self._clips[key] = ClipPool(field)
                names = {k: v for k, v in field_values.items() if k in ("common_name", "scientific_name", *RANKS[:-1])}
                self._clips[key].add(Clip(example.paths[0], recording(example), label, names, held_out))

    def _is_held_out(self, example: Example) -> bool:
        if not self._held_out:
            return False
        facts = {key: example.facts[key] for key in NAME_FACTS if key in example.facts}
        if callable(self._held_out):  # by the species alone, not by what else is heard or written
            return bool(self._held_out(dataclasses.replace(example, facts=facts, label="", text="")))
        names = {clean(name).casefold() for name in facts.values()} | {scientific_name(facts).casefold()}
        names |= {name.casefold() for name in ranks(facts).values()}
        return not self._held_out.isdisjoint(names - {""})

    def clips(self, split: str, field: str) -> ClipPool | None:
        """The clips of a split with a label in a field; None if there are none."""
        return self._clips.get((split, field))

    def negatives(
        self,
        field: str,
        values: Mapping[str, str],
        exclude: Collection[str],
        count: int,
        method: str,
        rng: random.Random,
    ) -> list[str]:
        """Wrong values of a field.

        Args:
          field: a field.
          values: the fields of the recording.
          exclude: values that are not wrong.
          count: values at most.
          method: how names of taxa are chosen, see `Taxa.negatives`.
          rng: source of randomness.
        """
        if field in KINDS:
            name = values.get("scientific_name", "") or values.get("common_name", "")
            taxon = self.taxa.find(name) or Taxon.of(values)
            return self.taxa.negatives(field, taxon, exclude, count, method, rng)
        if field not in self._sorted:
            spellings = [spelling[""] for _, spelling in self._values[field].items()]
            self._sorted[field] = [value for value in spellings if "," not in value]
        excluded = {name.casefold() for name in exclude}
        return distinct(self._sorted[field], count, rng, lambda name: name.casefold() in excluded)

    def names(self, text: str, field: str) -> list[str]:
        """The names, in a field, of the species listed in a text; species that are not in the corpus are left out."""
        taxa = [taxon for taxon in map(self.taxa.find, several(text)) if taxon]
        return [name for name in (taxon.name(field) for taxon in taxa) if name]

    def fields_of(self, facts: Mapping[str, str]) -> dict[str, str]:
        """The fields of a recording (`fields.fields`), with the names of all species heard if the corpus has them."""
        values = fields(facts)
        others = several(values.get("others", ""))
        for key, field in (("all_common_names", "common_name"), ("all_scientific_names", "scientific_name")):
            names = [values.get(field, ""), *self.names(values.get("others", ""), field)]
            if others and len(names) == len(others) + 1 and all(names):
                values[key] = ", ".join(several(",".join(names)))
        return values
