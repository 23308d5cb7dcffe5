"""Examples in order, one per row, for validation: fixed shapes, the last batch filled up with empty rows."""

import collections
import concurrent.futures
import dataclasses
import logging
from collections.abc import Iterator, Sequence

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
    """A batch and the examples in it."""

    batch: Batch
    examples: tuple[int, ...]
    """Per row the number of its example in the corpus; -1 for an empty row (weights 0)."""


class EvalSet:
    """Batches of a corpus in order; every iteration starts from the first example.

    Clips are the start of each recording, zero-padded to `samples`. All batches have one shape, that of the longest
    example (sizes rounded up to multiples of 16).

    Args:
      corpus: the examples.
      tokenizer: of the language model.
      fmt: how prompt, clips and answer become tokens.
      rows: of the global batch.
      samples: T, length of every clip.
      process_index: this host.
      process_count: number of hosts; each builds rows / process_count rows of a batch.
      limit: number of examples; None = all.
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
        self._rows, self._host_rows = rows, rows // process_count
        self._first_row = process_index * self._host_rows
        self._count = len(corpus) if limit is None else min(limit, len(corpus))
        tokens, clips, answers = corpus.sizes(tokenizer, fmt).max(axis=0)
        self.shape = pack.RowShape(_round_up(tokens), max(1, int(clips)), _round_up(answers), samples)
        self.damaged: list[str] = []
        """Names of the damaged examples of the last iteration; they are left out."""

    def __len__(self) -> int:
        return -(-self._count // self._rows)

    def __iter__(self) -> Iterator[EvalBatch]:
        self.damaged = []
        pending: collections.deque = collections.deque()
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            for b in range(len(self) + 1):  # one batch is read ahead
                if b < len(self):
                    first = b * self._rows + self._first_row
                    pending.append([(e, pool.submit(self.read, e)) for e in range(first, first + self._host_rows)])
                if b:
                    yield self._batch([(e, future.result()) for e, future in pending.popleft()])

    def read(self, e: int) -> pack.PackItem | str | None:
        """Example `e`; its name if a record is damaged (no other may be scored for it); None past the last one."""
        if e >= self._count:
            return None
        try:
            entry = self.corpus.entry(e)
            audio = self.corpus.audio(e, self.shape.samples)
        except CorruptRecord as error:
            return f"{self.corpus.name(e)} ({error})"
        sequence = self._format.sequence(self._tokenizer, entry.prompt, entry.text, entry.n_clips)
        return pack.PackItem(sequence, tuple(audio))

    def _batch(self, results: Sequence[tuple[int, pack.PackItem | str | None]]) -> EvalBatch:
        for _, item in results:
            if isinstance(item, str):
                self.damaged.append(item)
                log.warning("damaged example left out: %s", item)
        rows = [[item] if isinstance(item, pack.PackItem) else [] for _, item in results]
        fields = pack.assemble(rows, self.shape, self._format.vectors_per_clip)
        examples = tuple(e if row else -1 for (e, _), row in zip(results, rows, strict=True))
        return EvalBatch(Batch(**fields), examples)


def _round_up(n: np.integer, to: int = 16) -> int:
    return max(to, -(-int(n) // to) * to)
