"""Questions of a corpus as lists, its sounds as arrays, and the texts the tiny Llama reads."""

import collections
import pathlib
import re
from collections.abc import Callable, Sequence

import numpy as np

from nlm_jax.audio import wave
from nlm_jax.core.chat import DEFAULT_TEMPLATE
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError
from nlm_jax.data import corpora
from nlm_jax.data.schema import Example
from nlm_jax.data.text import CLIP_MARK, PLACEHOLDER, Tokenizer
from nlm_jax.demo.language import Text, written
from nlm_jax.evaluate.score import Prediction

REPEATS = 100
"""How often names and answers are told to the tokenizer."""
FRAME = tuple(re.split(r"<\|\w+\|>|{}", DEFAULT_TEMPLATE)) + tuple(CLIP_MARK.split(PLACEHOLDER))
"""What stands around every question and every clip, without the special tokens in between."""
LONGEST = 40
"""Characters of an answer that may be part of a clip's description."""


def read(annotations: pathlib.Path, split: str) -> list[Example]:
    """The questions of one split about one clip each.

    Raises:
      UserError: none.
    """
    found = [e for e in corpora.read(annotations, split=split) if len(e.paths) == 1]
    if not found:
        raise UserError(f"{annotations}: holds no questions of split {split!r}")
    return found


def described(examples: Sequence[Example]) -> dict[str, str]:
    """Clip -> its short answers, one a line: what a person would note about it. For corpora without field notes."""
    notes: dict[str, dict[str, None]] = collections.defaultdict(dict)
    for example in examples:
        if len(example.text) <= LONGEST:
            notes[example.paths[0]].setdefault(example.text)
    return {path: "\n".join(found) for path, found in notes.items()}


def tokenizer(examples: Sequence[Example], descriptions: dict[str, str], vocabulary: int) -> Tokenizer:
    """A tokenizer with a token for every word of answers, descriptions and frequent questions, as far as there is room.

    Names are rare beside the words of questions, so they are counted many times over, as is what stands around every
    question.
    """
    told = dict.fromkeys(f"{descriptions.get(e.paths[0], '')} {e.prompt} {e.text}" for e in examples)
    asked = collections.Counter(e.prompt for e in examples)
    often = [*(e.text for e in examples), *descriptions.values(), *(p for p, n in asked.items() if n > 9), *FRAME]
    return Tokenizer.train([*told, *list(dict.fromkeys(often)) * REPEATS], vocabulary)


def texts(
    words: Tokenizer, examples: Sequence[Example], descriptions: dict[str, str], weight: dict[str, float]
) -> tuple[list[Text], np.ndarray]:
    """Training texts and how often each is drawn: every task alike, times `weight` where it has one."""
    made = [written(words, e.prompt, e.text, descriptions.get(e.paths[0], "")) for e in examples]
    counts = collections.Counter(e.task for e in examples)
    share = np.array([weight.get(e.task, 1.0) / counts[e.task] for e in examples])
    return made, share / share.sum()


def questions(examples: Sequence[Example], tasks: Sequence[str], most: int = 0, seed: int = 0) -> list[Prediction]:
    """Unanswered questions of `tasks`, at most `most` of each (0 = all), drawn evenly and always the same."""
    chosen = []
    for task in tasks:
        mine = [e for e in examples if e.task == task]
        if 0 < most < len(mine):
            keep = np.sort(np.random.default_rng(seed).permutation(len(mine))[:most])
            mine = [mine[i] for i in keep]
        chosen += [Prediction(task, e.text, "", e.paths[0], e.prompt) for e in mine]
    return chosen


def waves(root: pathlib.Path, seconds: float) -> Callable[[str], np.ndarray]:
    """A reader of clips, f32[T]: the start of a recording, zero-padded to `seconds`; what was read stays in memory."""
    samples, kept = round(seconds * SAMPLE_RATE), {}

    def load(path: str) -> np.ndarray:
        if path not in kept:
            kept[path] = wave.fit(wave.load(root / path, seconds=seconds), samples)
        return kept[path]

    return load
