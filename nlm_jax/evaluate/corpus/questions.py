"""The questions of the held-out split of a prepared corpus."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

from nlm_jax.core.errors import UserError
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.shards import CorruptRecord


@dataclasses.dataclass(frozen=True)
class HeldOutQuestion:
    """A question of a corpus; an `EvalQuestion`."""

    corpus: Corpus
    example: int
    """Its index in the corpus."""
    samples: int
    """Clip length of the model under evaluation."""

    @functools.cached_property
    def entry(self):
        """Its row in the index of the corpus."""
        return self.corpus.entry(self.example)

    @property
    def part(self) -> str:
        """The task."""
        return self.entry.task

    @property
    def id(self) -> str:
        """Source and id of the example."""
        return f"{self.entry.source}/{self.entry.id}"

    @property
    def query(self) -> str:
        """The prompt of the example."""
        return self.entry.prompt

    @property
    def label(self) -> str:
        """The correct answer."""
        return self.entry.text

    def waveform(self) -> list[np.ndarray]:
        """Its clips f32[T], zero-padded or cut to `samples`. Raises UserError if a record is corrupt."""
        try:
            return self.corpus.audio(self.example, self.samples)
        except CorruptRecord as error:
            raise UserError(str(error)) from error


def questions(data: Sequence[str], split: str, samples: int, limit: int = 0) -> Iterator[HeldOutQuestion]:
    """The questions of one split.

    Args:
      data: prepared directories.
      split: its name.
      samples: clip length of the model.
      limit: maximum number of questions of each task, spread evenly; 0 = all.

    Raises:
      UserError: a directory is not prepared data, or has no such split.
    """
    corpus = Corpus(data, split)
    for example in spread(corpus, limit):
        yield HeldOutQuestion(corpus, int(example), samples)


def spread(corpus: Corpus, limit: int) -> Int[np.ndarray, "N"]:
    """Indices of at most `limit` (0 = all) examples of each task, spread evenly, in order."""
    if not limit:
        return np.arange(len(corpus))
    chosen = []
    for task in range(len(corpus.tasks)):
        members = np.flatnonzero(corpus.task == task)
        chosen.append(members[np.linspace(0, len(members) - 1, min(limit, len(members))).round().astype(int)])
    return np.sort(np.concatenate(chosen))
