"""Examples in their order, one a row, for validation: fixed shapes, the last batch filled with empty rows."""

import collections
import concurrent.futures
import dataclasses
import logging
from collections.abc import Iterator

import numpy as np

from nlm_jax.core.batch import Batch
from nlm_jax.data import pack
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.shards import CorruptRecord
from nlm_jax.data.text import Format, Tokenizer

log = logging.getLogger(__name__)
THREADS = 4


@dataclasses.dataclass(frozen=True)
class EvalBatch:
    """A batch and what is in it."""

    batch: Batch
    examples: tuple[int, ...]
    """Per row its example's number in the corpus; -1 for an empty row (weights 0)."""


class Evaluation:
    """Batches of `rows` examples of a corpus. Iterating starts anew each time.

    Clips take the start of the recording, zero-padded to `samples`. All batches have one shape, made for the longest
    example (sizes rounded up to multiples of 16).
    """

    def __init__(
        self,
        corpus: Corpus,
        tokenizer: Tokenizer,
        fmt: Format,
        rows: int,
        samples: int,
        process_index: int = 0,
        process_count: int = 1,
        limit: int | None = None,
    ):
        if rows % process_count:
            raise ValueError(f"{rows} rows do not divide over {process_count} processes")
        self.corpus, self._tokenizer, self._format = corpus, tokenizer, fmt
        self._rows, self._local = rows, rows // process_count
        self._first = process_index * self._local
        self._count = len(corpus) if limit is None else min(limit, len(corpus))
        tokens, clips, answers = corpus.needs(tokenizer, fmt).max(axis=0)
        self.shape = pack.RowShape(_round_up(tokens), max(1, int(clips)), _round_up(answers), samples)
        self.damaged: list[str] = []

    def __len__(self) -> int:
        return -(-self._count // self._rows)

    def __iter__(self) -> Iterator[EvalBatch]:
        self.damaged = []
        waiting: collections.deque = collections.deque()
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            for b in range(len(self) + 1):  # one batch is read while the one before it is used
                if b < len(self):
                    first = b * self._rows + self._first
                    waiting.append([(e, pool.submit(self._item, e)) for e in range(first, first + self._local)])
                if b:
                    yield self._batch([(e, reading.result()) for e, reading in waiting.popleft()])

    def _batch(self, read: list[tuple[int, pack.Item | str | None]]) -> EvalBatch:
        for _, item in read:
            if isinstance(item, str):
                self.damaged.append(item)
                log.warning("damaged example left out: %s", item)
        rows = [[item] if isinstance(item, pack.Item) else [] for _, item in read]
        made = pack.assemble(rows, self.shape, self._format.vectors_per_clip)
        return EvalBatch(Batch(**made), tuple(e if row else -1 for (e, _), row in zip(read, rows, strict=True)))

    def _item(self, e: int) -> pack.Item | str | None:
        """The example; its name where its record is damaged (no other may be scored for it); None past the end."""
        if e >= self._count:
            return None
        try:
            entry = self.corpus.entry(e)
            audio = self.corpus.audio(e, self.shape.samples)
        except CorruptRecord as error:
            return f"{self.corpus.name(e)} ({error})"
        sequence = self._format.sequence(self._tokenizer, entry.prompt, entry.text, entry.n_clips)
        return pack.Item(sequence, tuple(audio))


def _round_up(n: np.integer, to: int = 16) -> int:
    return max(to, -(-int(n) // to) * to)
