"""Several recordings in one prompt: labelled examples before a question, and comparisons, as BEANS-Next asks them.

All other recordings come from the pool of the same split, each from another recording. Whether the answer is yes or
no, and where the right clip stands, is decided only after it is sure that every answer could have been given, so that
no answer is more frequent than it should be.
"""

import random
import string
from collections.abc import Mapping

from nlm_jax.data import schema
from nlm_jax.data.schema import NONE
from nlm_jax.data.text import CLIP_MARK
from nlm_jax.prepare.tasks.fields import hertz, whole
from nlm_jax.prepare.tasks.pools import Clip, ClipPool, Pools, label_of
from nlm_jax.prepare.tasks.schema import Clips

SEMITONE = 2 ** (1 / 12)
"""Pitches closer than this are not put in order."""
DIRECTIONS = ("from lowest to highest", "from highest to lowest")
Built = tuple[dict[str, str], dict[str, tuple[str, ...]]]
"""Values of placeholders, and the recordings that stand in some of them."""


def build(
    spec: Clips, path: str, split: str, known: Mapping[str, str], pools: Pools, rng: random.Random, most_clips: int
) -> Built | None:
    """A comparison with the recording `path` in it; None where it has no label or the pool too few others."""
    of = [field for field in spec.of if label_of(known, field)]
    for field in rng.sample(of, len(of)):
        if (pool := pools.clips(split, field)) is None:
            continue
        own = Clip(path, schema.file_of(path), label_of(known, field), known)
        made = _KINDS[spec.kind](_Table(spec, own, known, pool, rng, most_clips))
        if made is not None:
            return made
    return None


class _Table:
    """The clips of one question while it is put together."""

    def __init__(self, spec: Clips, own: Clip, known: Mapping[str, str], pool: ClipPool, rng: random.Random, most: int):
        self.spec, self.own, self.pool, self.rng, self.most = spec, own, pool, rng, most
        self.used = {own.recording}
        self._others = iter(pool.others(known, own.label, rng))

    def count(self, beside: int = 0) -> int:
        """How many clips to choose from, with room for `beside` more."""
        low, high = self.spec.count
        return min(self.rng.randint(low, high), self.most - beside)

    def same(self, count: int = 1) -> list[Clip] | None:
        """Further clips of the own label."""
        return self._take(self.pool.clips(self.own.label, count, self.rng, self.used))

    def other(self, count: int = 1) -> list[Clip] | None:
        """Clips of the next label that has so many."""
        for label in self._others:
            if found := self._take(self.pool.clips(label, count, self.rng, self.used)):
                return found
        return None

    def others(self, labels: int) -> list[Clip]:
        """A clip of each of up to so many other labels."""
        return [found[0] for found in (self.other() for _ in range(labels)) if found]

    def _take(self, clips: list[Clip] | None) -> list[Clip] | None:
        self.used.update(clip.recording for clip in clips or ())
        return clips

    def shuffled(self, clips: list[Clip]) -> list[Clip]:
        return self.rng.sample(clips, len(clips))


def _lettered(clips: list[Clip], answer: str, **more: str) -> Built:
    text = "\n".join(f"{letter}: {CLIP_MARK}" for letter, _ in zip(string.ascii_uppercase, clips, strict=False))
    return {"clips": text, "answer": answer, **more}, {"clips": tuple(clip.path for clip in clips)}


def _letter(clips: list[Clip], clip: Clip) -> str:
    return string.ascii_uppercase[clips.index(clip)]


def _examples(clips: list[Clip], labels: list[str], own: Clip, options: list[str], answer: str) -> Built:
    text = "\n".join(f"{CLIP_MARK} {label}" for label in labels)
    values = {"examples": text, "query": CLIP_MARK, "options": ", ".join(options), "answer": answer}
    return values, {"examples": tuple(clip.path for clip in clips), "query": (own.path,)}


def _few_shot(table: _Table) -> Built | None:
    """`shots` examples of each of some labels; the query has one of them."""
    shots = table.rng.randint(*table.spec.shots)
    ways = table.count(beside=1)
    while shots > 1 and (ways * shots + 1 > table.most):
        shots -= 1
    own = table.same(shots)
    if own is None or ways < 2:
        return None
    groups = [own]
    while len(groups) < ways and (found := table.other(shots)):
        groups.append(found)
    if len(groups) < 2:
        return None
    clips = table.shuffled([clip for group in groups for clip in group])
    labels = [table.own.label, *(group[0].label for group in groups[1:])]
    spelt = {clip.label.casefold(): clip.label for group in groups[1:] for clip in group}
    spelt[table.own.label.casefold()] = table.own.label
    named = [spelt[clip.label.casefold()] for clip in clips]
    return _examples(clips, named, table.own, table.rng.sample(labels, len(labels)), table.own.label)


def _few_shot_detection(table: _Table) -> Built | None:
    """An example of each of some labels, by letter; the query has one of them, or, in half of the prompts, none."""
    same, others = table.same(), table.others(table.count(beside=1))
    if same is None or len(others) < 2:
        return None
    clips = others
    if present := table.rng.random() < 0.5:
        clips = [*same, *others[:-1]]
    clips = table.shuffled(clips)
    letters = list(string.ascii_uppercase[: len(clips)])
    return _examples(clips, letters, table.own, [*letters, NONE], _letter(clips, same[0]) if present else NONE)


def _same(table: _Table) -> Built | None:
    """Two clips, of one label in half of the prompts."""
    same, other = table.same(), table.other()
    if same is None or other is None:
        return None
    alike = table.rng.random() < 0.5
    return _lettered(table.shuffled([table.own, *(same if alike else other)]), "Yes" if alike else "No")


def _odd_one_out(table: _Table) -> Built | None:
    """Clips of one label and one of another."""
    same = next(filter(None, (table.same(count) for count in range(table.count() - 2, 0, -1))), None)
    other = table.other()
    if same is None or other is None:
        return None
    clips = table.shuffled([table.own, *same, *other])
    return _lettered(clips, _letter(clips, other[0]))


def _contains(table: _Table) -> Built | None:
    """Clips of different labels, one of which is looked for."""
    others = table.others(table.count() - 1)
    if not others:
        return None
    clips = table.shuffled([table.own, *others])
    return _lettered(clips, _letter(clips, table.own), target=table.own.label)


def _most(table: _Table) -> Built | None:
    """Clips with different numbers; the largest is looked for."""
    clips = [table.own, *table.others(table.count() - 1)]
    numbers = [whole(clip.label) for clip in clips]
    if len(clips) < 2 or None in numbers:
        return None
    largest = clips[max(range(len(clips)), key=lambda k: numbers[k] or 0)]
    clips = table.shuffled(clips)
    return _lettered(clips, _letter(clips, largest))


def _order(table: _Table) -> Built | None:
    """Clips whose pitches lie at least a semitone apart, to be put in order."""
    clips, count = [table.own], table.count()
    while len(clips) < count and (found := table.other()):
        pitches = [hertz(clip.label) or 0.0 for clip in (*clips, *found)]
        if min(pitches) > 0 and all(max(p, pitches[-1]) / min(p, pitches[-1]) >= SEMITONE for p in pitches[:-1]):
            clips += found
    if len(clips) < 2 or not hertz(table.own.label):
        return None
    clips = table.shuffled(clips)
    rising = table.rng.random() < 0.5
    ordered = sorted(clips, key=lambda clip: hertz(clip.label) or 0.0, reverse=not rising)
    answer = ", ".join(_letter(clips, clip) for clip in ordered)
    return _lettered(clips, answer, direction=DIRECTIONS[0 if rising else 1])


def _match(table: _Table) -> Built | None:
    """A sample, and clips one of which has its label."""
    same, others = table.same(), table.others(table.count(beside=1) - 1)
    if same is None or not others:
        return None
    clips = table.shuffled([*same, *others])
    values, paths = _lettered(clips, _letter(clips, same[0]))
    return {**values, "query": CLIP_MARK}, {**paths, "query": (table.own.path,)}


_KINDS = {
    "few-shot": _few_shot,
    "few-shot-detection": _few_shot_detection,
    "same": _same,
    "odd-one-out": _odd_one_out,
    "contains": _contains,
    "most": _most,
    "order": _order,
    "match": _match,
}
