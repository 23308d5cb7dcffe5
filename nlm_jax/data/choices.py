"""Random choices that change text, each a function of (seed, stream position): mixed detection questions, "None".

They are decided first and alone, so that the planner can count tokens without touching audio; what happens to the audio
is in `waves`.
"""

import dataclasses
import fnmatch
import random
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from nlm_jax.data.config import AugmentConfig
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.schema import NONE
from nlm_jax.data.shuffle import mix64

# One stream of random numbers per kind of choice, so that switching one on leaves the others as they are.
CROP, TEXT, NOISE, SCALE, PICK_NONE, PICK_MIX, SHIFT, BAND, ROOM, GAIN = range(1, 11)


def generator(seed: int, position: int, kind: int) -> np.random.Generator:
    """Random numbers for one kind of choice at one stream position; counter-based, so nothing is carried along."""
    return np.random.Generator(np.random.Philox(key=[seed, kind], counter=[0, 0, 0, position]))


def uniform(seed: int, positions: Int[np.ndarray, "N"], kind: int) -> Float[np.ndarray, "N"]:
    """One number in [0, 1) per position, for choices that planning makes for thousands at once."""
    key = mix64(np.asarray([seed], np.uint64)) + np.uint64(kind)
    return (mix64(positions.astype(np.uint64) ^ mix64(key)) >> np.uint64(11)) * 2.0**-53


def listed(tasks: Sequence[str], patterns: Sequence[str]) -> Bool[np.ndarray, "K"]:
    """Which tasks match one of the patterns."""
    return np.asarray([any(fnmatch.fnmatchcase(task, p) for p in patterns) for task in tasks], bool)


def labels_of(text: str) -> list[str]:
    """The comma-separated labels of an answer, without repeats."""
    return list(dict.fromkeys(label for label in map(str.strip, text.split(",")) if label))


def mix_labels(text: str, other: str) -> str:
    """Answer for two recordings heard together: all labels once; "None" only when nothing else is there."""
    labels = labels_of(f"{text},{other}")
    return ", ".join([label for label in labels if label != NONE] or labels)


def mix_prompts(prompt: str, text: str, other: str, rng: random.Random) -> str:
    """The question with both answers among its options, shuffled; unchanged unless it is "question? options"."""
    question, mark, options = prompt.partition("?")
    if not mark or "?" in options:
        return prompt
    merged = labels_of(",".join([options, text, other]))
    rng.shuffle(merged)
    return f"{question}? {', '.join(merged)}"


def partner_tasks(task: str) -> tuple[str, ...]:
    """Tasks whose recordings may be mixed into one of `task`: those that name species in the same way."""
    for kind in ("sci", "common"):
        if f"{kind}-" in task:
            return f"{kind}-simple-detection", f"{kind}-multiple-detection"
    return "common-simple-detection", "common-multiple-detection", "common-detection-random"


@dataclasses.dataclass(frozen=True)
class Choice:
    """What stands at a stream position. `prompt` and `text` are None where the stored ones stay."""

    example: int
    partners: tuple[int, ...] = ()
    silenced: bool = False
    """The audio is replaced by noise and the answer by "None"."""
    prompt: str | None = None
    text: str | None = None


class Chooser:
    """Decides `Choice`s: which detection questions are mixed with others, and which lose their animal."""

    def __init__(self, corpus: Corpus, config: AugmentConfig, seed: int):
        self._corpus, self._config, self._seed = corpus, config, seed
        self._detection = listed(corpus.tasks, config.detection)
        self._pools: dict[int, np.ndarray] = {}

    def changed(self, positions: Int[np.ndarray, "N"], examples: Int[np.ndarray, "N"]) -> Int[np.ndarray, "M"]:
        """Indices into `positions` whose text is not the stored one."""
        config = self._config
        if not (config.none_prob or config.mixup_prob):
            return np.zeros(0, np.int64)
        hit = uniform(self._seed, positions, PICK_NONE) < config.none_prob
        hit |= uniform(self._seed, positions, PICK_MIX) < config.mixup_prob
        hit &= self._detection[self._corpus.task[examples]] & (self._corpus.n_clips[examples] == 1)
        return np.flatnonzero(hit)

    def choose(self, position: int, example: int) -> Choice:
        """The choice for one position. Reads the records of the examples it mixes."""
        at = np.asarray([position])
        if not self.changed(at, np.asarray([example])).size:
            return Choice(example)
        if uniform(self._seed, at, PICK_NONE)[0] < self._config.none_prob:
            return Choice(example, silenced=True, text=NONE)
        entry = self._corpus.entry(example)
        rng = generator(self._seed, position, TEXT)
        pool = self._pool(int(self._corpus.task[example]))
        count = min(int(rng.integers(1, self._config.mixup_partners + 1)), len(pool))
        partners = tuple(int(p) for p in rng.choice(pool, count, replace=False) if p != example)
        if not partners:
            return Choice(example)
        prompt, text = entry.prompt, entry.text
        for partner in partners:
            other = self._corpus.entry(partner).text
            prompt = mix_prompts(prompt, text, other, random.Random(int(rng.integers(1 << 62))))
            text = mix_labels(text, other)
        return Choice(example, partners, prompt=prompt, text=text)

    def _pool(self, task: int) -> Int[np.ndarray, "N"]:
        """Single-clip examples to mix with `task`: the reference's partner tasks; where the data has none, `task`."""
        if task not in self._pools:
            corpus = self._corpus
            wanted = [corpus.tasks.index(t) for t in partner_tasks(corpus.tasks[task]) if t in corpus.tasks] or [task]
            self._pools[task] = np.flatnonzero(np.isin(corpus.task, wanted) & (corpus.n_clips == 1))
        return self._pools[task]
