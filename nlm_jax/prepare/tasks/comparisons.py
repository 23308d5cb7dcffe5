"""Several recordings in one prompt: labelled examples before a question, and comparisons, as in BEANS-Next.

All other clips come from the pool of the same split, each from another recording. Whether the answer is yes or no, and
at which letter the right clip is, is chosen only after clips for every answer were found, so that all answers are
equally frequent.
"""

import random
import string
from collections.abc import Mapping

from nlm_jax.data import schema
from nlm_jax.data.schema import NONE
from nlm_jax.data.text import CLIP_MARK
from nlm_jax.prepare.tasks.fields import hertz, whole_number
from nlm_jax.prepare.tasks.pools import Clip, ClipPool, Pools, label_of
from nlm_jax.prepare.tasks.schema import Comparison

SEMITONE = 2 ** (1 / 12)
"""Pitches closer than this are not put in order."""
DIRECTIONS = ("from lowest to highest", "from highest to lowest")
Filled = tuple[dict[str, str], dict[str, tuple[str, ...]]]
"""Values of placeholders, and the recordings in some of them."""


def build(
    spec: Comparison, path: str, split: str, values: Mapping[str, str], pools: Pools, rng: random.Random, max_clips: int
) -> Filled | None:
    """The placeholders of a comparison with a recording.

    Args:
      spec: the kind of comparison.
      path: the recording.
      split: that of the other clips.
      values: its fields.
      pools: the other clips.
      rng: source of randomness.
      max_clips: clips in one prompt.

    Returns:
      The placeholders; None if the recording has no label or the pool too few others.
    """
    labelled = [field for field in spec.of if label_of(values, field)]
    for field in rng.sample(labelled, len(labelled)):
        if (pool := pools.clips(split, field)) is None:
            continue
        own = Clip(path, schema.file_of(path), label_of(values, field), values)
        filled = _KINDS[spec.kind](_Drawer(spec, own, values, pool, rng, max_clips))
        if filled is not None:
            return filled
    return None


class _Drawer:
    """Draws the clips of one question, each from another recording."""

    def __init__(
        self,
        spec: Comparison,
        own: Clip,
        values: Mapping[str, str],
        pool: ClipPool,
        rng: random.Random,
        max_clips: int,
    ):
        self.spec, self.own, self.pool, self.rng, self.max_clips = spec, own, pool, rng, max_clips
        self._used = {own.recording}
        self._other_labels = iter(pool.others(values, own.label, rng))

    def count(self, reserve: int = 0) -> int:
        """A random number of clips to choose from; `reserve` more fit into the prompt."""
        low, high = self.spec.count
        return min(self.rng.randint(low, high), self.max_clips - reserve)

    def same(self, count: int = 1) -> list[Clip] | None:
        """Further clips with the label of the recording; None if there are fewer."""
        return self._take(self.pool.clips(self.own.label, count, self.rng, self._used))

    def other(self, count: int = 1) -> list[Clip] | None:
        """`count` clips of the next label that has as many; None if no label has."""
        for label in self._other_labels:
            if clips := self._take(self.pool.clips(label, count, self.rng, self._used)):
                return clips
        return None

    def others(self, labels: int) -> list[Clip]:
        """One clip of each of up to `labels` other labels."""
        return [clips[0] for clips in (self.other() for _ in range(labels)) if clips]

    def _take(self, clips: list[Clip] | None) -> list[Clip] | None:
        self._used.update(clip.recording for clip in clips or ())
        return clips

    def shuffled(self, clips: list[Clip]) -> list[Clip]:
        """The clips in random order."""
        return self.rng.sample(clips, len(clips))


def _lettered(clips: list[Clip], answer: str, **more: str) -> Filled:
    """The placeholders of clips with letters, A first."""
    text = "\n".join(f"{letter}: {CLIP_MARK}" for letter, _ in zip(string.ascii_uppercase, clips, strict=False))
    return {"clips": text, "answer": answer, **more}, {"clips": tuple(clip.path for clip in clips)}


def _letter(clips: list[Clip], clip: Clip) -> str:
    return string.ascii_uppercase[clips.index(clip)]


def _examples(clips: list[Clip], labels: list[str], own: Clip, options: list[str], answer: str) -> Filled:
    """The placeholders of labelled examples before a query."""
    text = "\n".join(f"{CLIP_MARK} {label}" for label in labels)
    values = {"examples": text, "query": CLIP_MARK, "options": ", ".join(options), "answer": answer}
    return values, {"examples": tuple(clip.path for clip in clips), "query": (own.path,)}


def _few_shot(draw: _Drawer) -> Filled | None:
    """`shots` labelled examples of each of several labels, one of which is that of the query."""
    shots = draw.rng.randint(*draw.spec.shots)
    ways = draw.count(reserve=1)
    while shots > 1 and (ways * shots + 1 > draw.max_clips):
        shots -= 1
    own = draw.same(shots)
    if own is None or ways < 2:
        return None
    groups = [own]
    while len(groups) < ways and (other := draw.other(shots)):
        groups.append(other)
    if len(groups) < 2:
        return None
    clips = draw.shuffled([clip for group in groups for clip in group])
    labels = [draw.own.label, *(group[0].label for group in groups[1:])]
    spelling = {clip.label.casefold(): clip.label for group in groups[1:] for clip in group}
    spelling[draw.own.label.casefold()] = draw.own.label
    shown = [spelling[clip.label.casefold()] for clip in clips]
    return _examples(clips, shown, draw.own, draw.rng.sample(labels, len(labels)), draw.own.label)


def _few_shot_detection(draw: _Drawer) -> Filled | None:
    """A lettered example of each of several labels; the query has one of them, or in half of the prompts none."""
    same, others = draw.same(), draw.others(draw.count(reserve=1))
    if same is None or len(others) < 2:
        return None
    clips = others
    if present := draw.rng.random() < 0.5:
        clips = [*same, *others[:-1]]
    clips = draw.shuffled(clips)
    letters = list(string.ascii_uppercase[: len(clips)])
    return _examples(clips, letters, draw.own, [*letters, NONE], _letter(clips, same[0]) if present else NONE)


def _same(draw: _Drawer) -> Filled | None:
    """Are two clips of one label? They are in half of the prompts."""
    same, other = draw.same(), draw.other()
    if same is None or other is None:
        return None
    alike = draw.rng.random() < 0.5
    return _lettered(draw.shuffled([draw.own, *(same if alike else other)]), "Yes" if alike else "No")


def _odd_one_out(draw: _Drawer) -> Filled | None:
    """Which clip has another label than the others?"""
    same = next(filter(None, (draw.same(count) for count in range(draw.count() - 2, 0, -1))), None)
    other = draw.other()
    if same is None or other is None:
        return None
    clips = draw.shuffled([draw.own, *same, *other])
    return _lettered(clips, _letter(clips, other[0]))


def _contains(draw: _Drawer) -> Filled | None:
    """Which clip has the target label? All labels differ."""
    others = draw.others(draw.count() - 1)
    if not others:
        return None
    clips = draw.shuffled([draw.own, *others])
    return _lettered(clips, _letter(clips, draw.own), target=draw.own.label)


def _most(draw: _Drawer) -> Filled | None:
    """Which clip has the largest number? All numbers differ."""
    clips = [draw.own, *draw.others(draw.count() - 1)]
    numbers = [whole_number(clip.label) for clip in clips]
    if len(clips) < 2 or None in numbers:
        return None
    largest = clips[max(range(len(clips)), key=lambda k: numbers[k] or 0)]
    clips = draw.shuffled(clips)
    return _lettered(clips, _letter(clips, largest))


def _order(draw: _Drawer) -> Filled | None:
    """Clips to be put in order of their pitches, which are at least a semitone apart."""
    clips, count = [draw.own], draw.count()
    while len(clips) < count and (other := draw.other()):
        pitches = [hertz(clip.label) or 0.0 for clip in (*clips, *other)]
        if min(pitches) > 0 and all(max(p, pitches[-1]) / min(p, pitches[-1]) >= SEMITONE for p in pitches[:-1]):
            clips += other
    if len(clips) < 2 or not hertz(draw.own.label):
        return None
    clips = draw.shuffled(clips)
    rising = draw.rng.random() < 0.5
    ordered = sorted(clips, key=lambda clip: hertz(clip.label) or 0.0, reverse=not rising)
    answer = ", ".join(_letter(clips, clip) for clip in ordered)
    return _lettered(clips, answer, direction=DIRECTIONS[0 if rising else 1])


def _match(draw: _Drawer) -> Filled | None:
    """Which clip has the label of the sample?"""
    same, others = draw.same(), draw.others(draw.count(reserve=1) - 1)
    if same is None or not others:
        return None
    clips = draw.shuffled([*same, *others])
    values, paths = _lettered(clips, _letter(clips, same[0]))
    return {**values, "query": CLIP_MARK}, {**paths, "query": (draw.own.path,)}


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
