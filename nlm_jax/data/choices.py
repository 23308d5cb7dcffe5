"""Random choices that change text, each a function of (seed, position): merged detection questions, and "None".

They are made apart from the augmentation of audio (`clips`), so that the planner counts tokens without reading audio.
"""

import dataclasses
import fnmatch
import random
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from nlm_jax.data.config import AugmentConfig
from nlm_jax.data.dataset import Corpus, Entry
from nlm_jax.data.schema import NONE
from nlm_jax.data.shuffle import mix64

# One stream of random numbers per kind of choice, so that switching one on does not change the others.
CROP, TEXT, NOISE, SCALE, PICK_NONE, PICK_MIX, SHIFT, BAND, ROOM, GAIN = range(1, 11)


def generator(seed: int, position: int, kind: int) -> np.random.Generator:
    """Random numbers for one kind of choice at one stream position; counter-based, hence without state."""
    return np.random.Generator(np.random.Philox(key=[seed, kind], counter=[0, 0, 0, position]))


def uniform(seed: int, positions: Int[np.ndarray, "N"], kind: int) -> Float[np.ndarray, "N"]:
    """One number in [0, 1) per position, for one kind of choice at many positions at once."""
    key = mix64(np.asarray([seed], np.uint64)) + np.uint64(kind)
    return (mix64(positions.astype(np.uint64) ^ mix64(key)) >> np.uint64(11)) * 2.0**-53


def matching(tasks: Sequence[str], patterns: Sequence[str]) -> Bool[np.ndarray, "K"]:
    """Whether each task matches one of the patterns (`fnmatch`)."""
    return np.asarray([any(fnmatch.fnmatchcase(task, p) for p in patterns) for task in tasks], bool)


def labels_of(text: str) -> list[str]:
    """The comma-separated labels of an answer, without duplicates."""
    return list(dict.fromkeys(label for label in map(str.strip, text.split(",")) if label))


def mix_labels(text: str, other: str) -> str:
    """Answer for two mixed recordings: all labels once; "None" only if there is no other label."""
    labels = labels_of(f"{text},{other}")
    return ", ".join([label for label in labels if label != NONE] or labels)


def mix_prompts(prompt: str, text: str, other: str, rng: random.Random) -> str:
    """The question with both answers among its options, shuffled; unchanged unless of the form "question? options"."""
    question, mark, options = prompt.partition("?")
    if not mark or "?" in options:
        return prompt
    labels = labels_of(",".join([options, text, other]))
    rng.shuffle(labels)
    return f"{question}? {', '.join(labels)}"


def partner_tasks(task: str) -> tuple[str, ...]:
    """Tasks whose recordings may be mixed into one of `task`: those with the same kind of species names."""
    for kind in ("sci", "common"):
        if f"{kind}-" in task:
            return f"{kind}-simple-detection", f"{kind}-multiple-detection"
    return "common-simple-detection", "common-multiple-detection", "common-detection-random"


@dataclasses.dataclass(frozen=True)
class Choice:
    """The example at a stream position, and what augmentation does to its text."""

    example: int
    partners: tuple[int, ...] = ()
    """Examples whose recordings are mixed in."""
    silenced: bool = False
    """The audio is replaced by noise and the answer by "None"."""
    prompt: str | None = None
    """None = as stored; so is the answer, `text`."""
    text: str | None = None

    def texts(self, entry: Entry) -> tuple[str, str]:
        """Prompt and answer, of which `entry` gives those that stay as stored."""
        return entry.prompt if self.prompt is None else self.prompt, entry.text if self.text is None else self.text


class Chooser:
    """Makes `Choice`s: which detection questions are merged with others, and which become "None".

    Args:
      corpus: the examples.
      config: probabilities, and the tasks that are detection.
      seed: of the choices.
    """

    def __init__(self, corpus: Corpus, config: AugmentConfig, seed: int):
        self._corpus, self._config, self._seed = corpus, config, seed
        self._is_detection = matching(corpus.tasks, config.detection)
        self._pools: dict[int, np.ndarray] = {}

    def changed(self, positions: Int[np.ndarray, "N"], examples: Int[np.ndarray, "N"]) -> Int[np.ndarray, "M"]:
        """Indices into `positions` whose text may differ from the stored one.

        Args:
          positions: in the stream.
          examples: at these positions.
        """
        config = self._config
        if not (config.none_prob or config.mixup_prob):
            return np.zeros(0, np.int64)
        drawn = uniform(self._seed, positions, PICK_NONE) < config.none_prob
        drawn |= uniform(self._seed, positions, PICK_MIX) < config.mixup_prob
        drawn &= self._is_detection[self._corpus.task[examples]] & (self._corpus.n_clips[examples] == 1)
        return np.flatnonzero(drawn)

    def choose(self, position: int, example: int) -> Choice:
        """The choice for the example at a position.

        Raises:
          CorruptRecord: the record of the example or of a partner is damaged.
        """
        positions = np.asarray([position])
        if not self.changed(positions, np.asarray([example])).size:
            return Choice(example)
        if uniform(self._seed, positions, PICK_NONE)[0] < self._config.none_prob:
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
        """Single-clip examples to mix with `task`: of the reference's partner tasks, or of `task` if there are none."""
        if task not in self._pools:
            corpus = self._corpus
            partners = [corpus.tasks.index(t) for t in partner_tasks(corpus.tasks[task]) if t in corpus.tasks]
            self._pools[task] = np.flatnonzero(np.isin(corpus.task, partners or [task]) & (corpus.n_clips == 1))
        return self._pools[task]
