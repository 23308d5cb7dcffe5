"""Questions of a corpus as lists, its sounds as arrays, and the training texts of the tiny Llama."""

import collections
import pathlib
import re
from collections.abc import Callable, Sequence

import numpy as np

from nlm_jax.audio import wave
from nlm_jax.core.chat import DEFAULT_TEMPLATE
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example
from nlm_jax.data.text import CLIP_MARK, PLACEHOLDER, Tokenizer
from nlm_jax.demo.language import Text, make_text
from nlm_jax.evaluate.accuracy import Prediction
from nlm_jax.prepare.readers import registry

REPEATS = 100
"""Repetitions of names and answers in the tokenizer's training text."""
FRAME = tuple(re.split(r"<\|\w+\|>|{}", DEFAULT_TEMPLATE)) + tuple(CLIP_MARK.split(PLACEHOLDER))
"""The template around every question and every clip, without special tokens."""
MAX_DESCRIPTION = 40
"""Maximum characters of an answer that becomes part of a clip's description."""


def read(annotations: pathlib.Path, split: str) -> list[Example]:
    """The questions of one split that are about a single clip.

    Raises:
      UserError: there are none.
    """
    examples = [e for e in registry.read(annotations, split=split) if len(e.paths) == 1]
    if not examples:
        raise UserError(f"{annotations}: has no questions of split {split!r}")
    return examples


def descriptions_from_answers(examples: Sequence[Example]) -> dict[str, str]:
    """Clip -> its short answers, one per line, as the description of a clip of real recordings."""
    answers: dict[str, dict[str, None]] = collections.defaultdict(dict)
    for example in examples:
        if len(example.text) <= MAX_DESCRIPTION:
            answers[example.paths[0]].setdefault(example.text)
    return {path: "\n".join(texts) for path, texts in answers.items()}


def tokenizer(examples: Sequence[Example], descriptions: dict[str, str], vocabulary: int) -> Tokenizer:
    """Trains a tokenizer of `vocabulary` tokens, one per word of answers, descriptions and frequent questions.

    Names are rare compared with the words of questions, so their weight is increased, and so is that of the template.
    """
    lines = dict.fromkeys(f"{descriptions.get(e.paths[0], '')} {e.prompt} {e.text}" for e in examples)
    prompts = collections.Counter(e.prompt for e in examples)
    frequent = [*(e.text for e in examples), *descriptions.values(), *(p for p, n in prompts.items() if n > 9), *FRAME]
    return Tokenizer.train([*lines, *list(dict.fromkeys(frequent)) * REPEATS], vocabulary)


def texts(
    words: Tokenizer, examples: Sequence[Example], descriptions: dict[str, str], weight: dict[str, float]
) -> tuple[list[Text], np.ndarray]:
    """Training texts and their sampling probabilities: equal for all tasks, times the `weight` of a task."""
    result = [make_text(words, e.prompt, e.text, descriptions.get(e.paths[0], "")) for e in examples]
    counts = collections.Counter(e.task for e in examples)
    share = np.array([weight.get(e.task, 1.0) / counts[e.task] for e in examples])
    return result, share / share.sum()


def questions(examples: Sequence[Example], tasks: Sequence[str], limit: int = 0, seed: int = 0) -> list[Prediction]:
    """Unanswered questions of `tasks`, at most `limit` of each (0 = all), sampled uniformly by `seed`."""
    chosen = []
    for task in tasks:
        candidates = [e for e in examples if e.task == task]
        if 0 < limit < len(candidates):
            indices = np.sort(np.random.default_rng(seed).permutation(len(candidates))[:limit])
            candidates = [candidates[i] for i in indices]
        chosen += [Prediction(task, e.text, "", e.paths[0], e.prompt) for e in candidates]
    return chosen


def waves(root: pathlib.Path, seconds: float) -> Callable[[str], np.ndarray]:
    """A function that loads clips, f32[T]: the start of a recording, zero-padded to `seconds`, cached in memory."""
    samples, cache = round(seconds * SAMPLE_RATE), {}

    def load(path: str) -> np.ndarray:
        if path not in cache:
            cache[path] = wave.fit(wave.load(root / path, seconds=seconds), samples)
        return cache[path]

    return load
