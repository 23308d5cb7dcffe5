"""Prepared corpora to training batches: `train_set(config, ...).batches(start, ...)`.

Index spaces, from the stream to the arrays of a batch:

  position  place in the endless stream of examples; whatever is random about an example is keyed by (seed, position)
  example   number in the corpus; `TrainStream.lookup` gives the example at a position
  window    consecutive positions that are planned together, and the `window_rows` rows they fill (`Planner`)
  row       number of a packed sequence, counted through all windows; it holds the examples of a few positions
  batch     `rows` consecutive rows, of which every host builds its own consecutive share
  segment   place of an example in its row, from 1; 0 = padding
  clip      recording of an example, counted within the example; in a row, counted within the row
  slot      one of a row's fixed places: for clips, for answer tokens, and (`audio_slot`) for clip vectors

Everything up to the arrays is computed from these indices alone, so batch b is a pure function of (config, seed, b),
whatever the number of hosts, workers and threads, and the state of the data in a checkpoint is the number of batches.
"""

import collections
import logging
from typing import Any

import numpy as np
from jaxtyping import Int

from nlm_jax.core.errors import UserError
from nlm_jax.data import mixture_report, pack
from nlm_jax.data.batches import BatchIterator, HostBatches
from nlm_jax.data.choices import Choice, Chooser
from nlm_jax.data.clips import ClipReader
from nlm_jax.data.config import DataConfig
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.mixture import groups_of
from nlm_jax.data.planner import Planner, check_fit
from nlm_jax.data.shards import CorruptRecord
from nlm_jax.data.text import Format, Tokenizer, TokenSequence
from nlm_jax.data.train_stream import TrainStream

log = logging.getLogger(__name__)
REPLACEMENTS = 32
"""Examples tried in place of a damaged one before giving up."""


class TrainSet:
    """The endless training stream of a config, row by row; `train_set` builds one.

    Args:
      corpus: the examples.
      tokenizer: of the language model.
      fmt: how prompt, clips and answer become tokens.
      config: row sizes, mixture, augmentation, workers.
      seed: of shuffle, packing and augmentation.

    Raises:
      UserError: an example is longer than a row, or with `config.skip_long` every example is.
    """

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer, fmt: Format, config: DataConfig, seed: int):
        self.config, self.tokenizer, self.format, self.seed = config, tokenizer, fmt, seed
        self.shape = pack.RowShape(config.row_tokens, config.row_clips, config.row_answers, config.samples)
        sizes = corpus.sizes(tokenizer, fmt)
        self.skipped = 0
        if config.skip_long:
            fits = (sizes <= np.asarray(self.shape.capacity)).all(axis=1)
            self.skipped = int((~fits).sum())
            if self.skipped:
                first = corpus.name(int(np.flatnonzero(~fits)[0]))
                log.warning(
                    "%d of %d examples are longer than a row and left out, first %s", self.skipped, len(fits), first
                )
            if not fits.any():
                raise UserError("every example is longer than a row; raise data.row_tokens, row_clips or row_answers")
            corpus, sizes = corpus.subset(fits), sizes[fits]
        check_fit(sizes, self.shape.capacity, corpus.name)
        self.corpus, self.stored_sizes = corpus, sizes
        self.stream = TrainStream(groups_of(corpus, config.mixture, seed), seed)
        self._chooser = Chooser(corpus, config.augment, seed)
        self._clips = ClipReader(corpus, config.augment, config.samples, config.random_crop, seed)
        self.planner = Planner(self.sizes, self.shape.capacity, config.window_rows, seed)

    def __reduce__(self):
        # A worker process opens the data itself: open files cannot be sent, and opening is cheaper than sending.
        return train_set, (self.config, self.tokenizer, self.format, self.seed)

    @property
    def batches_per_epoch(self) -> float:
        """Batches that hold as many examples as the corpus has."""
        return len(self.corpus) / self.planner.per_window * self.config.window_rows / self.config.rows

    def summary(self) -> dict[str, int | float]:
        """Number of examples, of those left out, batches per epoch, and how full rows are (`Planner.report`)."""
        return {
            "examples": len(self.corpus),
            "left_out": self.skipped,
            "batches_per_epoch": self.batches_per_epoch,
            **self.planner.report(),
        }

    def exposure(self, batches: int) -> list[dict[str, Any]]:
        """Effective epochs of sources, domains, tasks and species in `batches` batches, as `mixture_report.rows`."""
        per_batch = self.planner.per_window / self.config.window_rows * self.config.rows
        return mixture_report.rows(self.corpus, self.stream, batches * per_batch)

    def sizes(self, positions: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N 3"]:
        """Tokens, clips and answer tokens of the example at each position, with the text that augmentation changes."""
        examples = self.stream.lookup(positions)
        sizes = self.stored_sizes[examples]
        for k in self._chooser.changed(positions, examples):
            try:
                sizes[k] = self._sequence(self.choose(int(positions[k]), int(examples[k]))).size
            except CorruptRecord:  # `build_row` reads the same record, reports and replaces it
                continue
        return sizes

    def choose(self, position: int, example: int) -> Choice:
        """Applies augmentation to the text; returns it unchanged if the row could not hold the result alone."""
        choice = self._chooser.choose(position, example)
        if choice.text is None or (np.asarray(self._sequence(choice).size) <= self.shape.capacity).all():
            return choice
        return Choice(example)

    def build_row(self, r: int, fields: dict[str, np.ndarray]) -> list[str]:
        """Writes row `r` into one row of `pack.empty`; returns the names of damaged examples that were replaced."""
        positions, damaged = self.planner.row(r), []
        examples = self.stream.lookup(np.asarray(positions, np.int64)).tolist()
        items = [self._item(p, e, damaged) for p, e in zip(positions, examples, strict=True)]
        items = [item for item in items if item is not None]
        pack.fill_row(fields, items, self.shape, self.format.vectors_per_clip)
        return damaged

    def retries(self) -> collections.Counter[str]:
        """Transfers from buckets that this process retried so far, by kind of error."""
        return self.corpus.retries()

    def batches(
        self, start: int = 0, process_index: int = 0, process_count: int = 1, workers: int | None = None
    ) -> BatchIterator:
        """This host's rows of the batches `start`, `start` + 1, ... as numpy arrays.

        Args:
          start: number of the first batch.
          process_index: this host.
          process_count: number of hosts; each gets `config.rows` / process_count rows of a batch.
          workers: processes that build batches; `config.workers` if None.

        Raises:
          UserError: the rows cannot be divided among the hosts.
        """
        rows = self.config.rows
        if rows % process_count:
            raise UserError(f"data.rows={rows}: does not divide over {process_count} processes; choose a multiple")
        if not 0 <= process_index < process_count:
            raise ValueError(f"process {process_index} of {process_count}")
        host_rows = rows // process_count
        share = HostBatches(self, rows, process_index * host_rows, host_rows)
        workers = self.config.workers if workers is None else workers
        return BatchIterator(share, start, self.config.threads, self.config.prefetch, workers)

    def _sequence(self, choice: Choice) -> TokenSequence:
        entry = self.corpus.entry(choice.example)
        prompt, answer = choice.texts(entry)
        return self.format.sequence(self.tokenizer, prompt, answer, entry.n_clips)

    def _item(self, position: int, example: int, damaged: list[str]) -> pack.PackItem | None:
        """The example at `position`; if it is damaged, another that is no larger, or None if there is none.

        Args:
          position: in the stream.
          example: the stream's example there.
          damaged: names of damaged examples are appended.
        """
        try:
            choice = self.choose(position, example)
            return pack.PackItem(self._sequence(choice), self._clips.clips(choice, position))
        except CorruptRecord as error:
            damaged.append(f"{self.corpus.name(example)} ({error})")
        others = self._replacements(example, self.sizes(np.asarray([position]))[0])
        for other in others:
            try:
                return pack.PackItem(self._sequence(Choice(other)), self._clips.clips(Choice(other), position))
            except CorruptRecord as error:
                damaged.append(f"{self.corpus.name(other)} ({error})")
        if len(others) < REPLACEMENTS:
            return None
        raise UserError(
            f"{self.corpus.name(example)}: damaged, and so are {REPLACEMENTS} examples tried in its place; "
            "the directory is not readable, run nlm prepare again"
        )

    def _replacements(self, example: int, size: Int[np.ndarray, "3"]) -> list[int]:
        """The next examples after `example` (cyclically) that are no larger than `size`."""
        fitting = np.flatnonzero((self.stored_sizes <= size).all(axis=1))
        after = int(np.searchsorted(fitting, example, side="right"))
        others = np.concatenate([fitting[after:], fitting[:after]])
        return [int(e) for e in others[: REPLACEMENTS + 1] if e != example][:REPLACEMENTS]


def train_set(config: DataConfig, tokenizer: Tokenizer, fmt: Format, seed: int | None = None) -> TrainSet:
    """The endless training stream of prepared directories.

    Example:
      from nlm_jax import train_set
      from nlm_jax.data import DataConfig, Format, Tokenizer

      config = DataConfig(train=("data/own",), seconds=2.0, rows=8)
      stream = train_set(config, Tokenizer.from_pretrained("embedded"), Format(vectors_per_clip=5))
      batch = next(stream.batches(start=0))

    Args:
      config: `config.train` names the directories, written by `nlm prepare`.
      tokenizer: of the language model.
      fmt: how prompt, clips and answer become tokens; `vectors_per_clip` is `QFormerConfig.vectors(config.samples)`.
      seed: of shuffle, packing and augmentation; `config.seed` if None.

    Returns:
      The stream; `batches(start)` gives numpy batches, and batch b is a function of (config, seed, b).

    Raises:
      UserError: a directory is missing or unfinished, no example is left, or one is longer than a row and
        `config.skip_long` is off.
    """
    corpus = Corpus(config.train, config.train_split, config.tasks, config.domains, config.cache_gb)
    return TrainSet(corpus, tokenizer, fmt, config, config.seed if seed is None else seed)
