"""From prepared corpora to batches: `train_set(...).batches(start, ...)` and `evaluation(...)`.

Everything up to the batch is index-based: stream position -> example (mixture), row -> positions (plan), row -> arrays.
Batch b is therefore a pure function of (config, seed, b); its rows are dealt to the hosts in order, so the position of
a run is the number of batches consumed, whatever the number of hosts, workers or threads.
"""

import collections
import dataclasses
import gc
import logging
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags
from jaxtyping import Int

from nlm_jax.core.batch import FIELDS, Batch
from nlm_jax.core.errors import UserError
from nlm_jax.data import mixture_report, pack, text
from nlm_jax.data.choices import Choice, Chooser
from nlm_jax.data.clips import Waves
from nlm_jax.data.config import DataConfig
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.mixture import Stream, groups_of
from nlm_jax.data.planner import Planner, check_fit
from nlm_jax.data.shard_cache import CACHE_GB
from nlm_jax.data.shards import CorruptRecord
from nlm_jax.data.text import Format, Tokenizer

log = logging.getLogger(__name__)
REPLACEMENTS = 32  # examples tried in the place of a damaged one before giving up
ENDLESS = 1 << 40


def open_corpus(
    directories: Sequence[str],
    split: str = "",
    tasks: Sequence[str] = (),
    domains: Sequence[str] = (),
    cache_gb: float = CACHE_GB,
) -> Corpus:
    """Examples of prepared directories. `UserError` where one is missing, unfinished, or nothing is left."""
    return Corpus(directories, split, tuple(tasks), tuple(domains), cache_gb)


class TrainSet:
    """The endless training stream of a config, row by row. Build one with `train_set`."""

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer, fmt: Format, config: DataConfig, seed: int):
        self.config, self.tokenizer, self.format, self.seed = config, tokenizer, fmt, seed
        self.shape = pack.RowShape(config.row_tokens, config.row_clips, config.row_answers, config.samples)
        self._capacity = (config.row_tokens, config.row_clips, config.row_answers)
        needs = corpus.needs(tokenizer, fmt)
        self.skipped = 0
        if config.skip_long:
            fits = (needs <= np.asarray(self._capacity)).all(axis=1)
            self.skipped = int((~fits).sum())
            if self.skipped:
                first = corpus.name(int(np.flatnonzero(~fits)[0]))
                log.warning(
                    "%d of %d examples are longer than a row and left out, first %s", self.skipped, len(fits), first
                )
            if not fits.any():
                raise UserError("every example is longer than a row; raise data.row_tokens, row_clips or row_answers")
            corpus, needs = corpus.subset(fits), needs[fits]
        check_fit(needs, self._capacity, corpus.name)
        self.corpus, self._stored_needs = corpus, needs
        self.stream = Stream(groups_of(corpus, config.mixture, seed), seed)
        self._chooser = Chooser(corpus, config.augment, seed)
        self._waves = Waves(corpus, config.augment, config.samples, config.random_crop, seed)
        self.planner = Planner(self.needs, self._capacity, config.window_rows, seed)

    def __reduce__(self):
        # A worker process opens the data itself: cheaper than sending it the index, and files do not travel.
        return train_set, (self.config, self.tokenizer, self.format, self.seed)

    @property
    def batches_per_epoch(self) -> float:
        """Batches in which as many examples pass as the corpus has."""
        return len(self.corpus) / self.planner.per_window * self.config.window_rows / self.config.rows

    def summary(self) -> dict[str, int | float]:
        """What to show at the start: examples, those left out, batches an epoch, and how full rows are (0 to 1)."""
        return {
            "examples": len(self.corpus),
            "left_out": self.skipped,
            "batches_per_epoch": self.batches_per_epoch,
            **self.planner.report(),
        }

    def exposure(self, batches: int) -> list[dict[str, Any]]:
        """What so many batches hold of each source, domain and task, as `exposure.rows`."""
        per_batch = self.planner.per_window / self.config.window_rows * self.config.rows
        return mixture_report.rows(self.corpus, self.stream, batches * per_batch)

    def needs(self, positions: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N 3"]:
        """text.Sequence, clips and answer tokens of what stands at each stream position, augmented text included."""
        examples = self.stream.lookup(positions)
        needs = self._stored_needs[examples]
        for at in self._chooser.changed(positions, examples):
            try:
                needs[at] = self._count(self._sequence(self._choice(int(positions[at]), int(examples[at]))))
            except CorruptRecord:  # the row's reader meets the same record, counts and replaces it
                continue
        return needs

    def row(self, r: int, into: dict[str, np.ndarray]) -> list[str]:
        """Row `r` into a row of `pack.empty`; the names of damaged examples that were replaced in it."""
        positions, damaged = self.planner.row(r), []
        examples = self.stream.lookup(np.asarray(positions, np.int64)).tolist()
        items = [self._item(p, e, damaged) for p, e in zip(positions, examples, strict=True)]
        items = [item for item in items if item is not None]
        pack.fill_row(into, items, self.shape, self.format.vectors_per_clip)
        return damaged

    def batches(
        self, start: int = 0, process_index: int = 0, process_count: int = 1, workers: int | None = None
    ) -> "BatchIterator":
        """This host's rows of the batches `start`, `start` + 1, ...: numpy `Batch`es of rows / process_count rows."""
        rows = self.config.rows
        if rows % process_count:
            raise UserError(f"data.rows={rows}: does not divide over {process_count} processes; choose a multiple")
        if not 0 <= process_index < process_count:
            raise ValueError(f"process {process_index} of {process_count}")
        source = _HostBatches(self, process_index * (rows // process_count), rows // process_count)
        return BatchIterator(source, start, self.config, self.config.workers if workers is None else workers)

    def _choice(self, position: int, example: int) -> Choice:
        """The choice of the augmentation, or the stored example where the augmented one is longer than a row."""
        choice = self._chooser.choose(position, example)
        if choice.text is not None and (self._count(self._sequence(choice)) > np.asarray(self._capacity)).any():
            return Choice(example)
        return choice

    def _count(self, sequence: text.Sequence) -> tuple[int, int, int]:
        return len(sequence), sequence.n_clips, sequence.n_answers

    def _sequence(self, choice: Choice) -> text.Sequence:
        entry = self.corpus.entry(choice.example)
        prompt = entry.prompt if choice.prompt is None else choice.prompt
        answer = entry.text if choice.text is None else choice.text
        return self.format.sequence(self.tokenizer, prompt, answer, entry.n_clips)

    def _item(self, position: int, example: int, damaged: list[str]) -> pack.Item | None:
        """The example at `position`, or another in the room planned for it; None where no example is that small."""
        try:
            choice = self._choice(position, example)
            return pack.Item(self._sequence(choice), self._waves.clips(choice, position))
        except CorruptRecord as error:
            damaged.append(f"{self.corpus.name(example)} ({error})")
        others = self._smaller(example, self.needs(np.asarray([position]))[0])
        for other in others:
            try:
                return pack.Item(self._sequence(Choice(other)), self._waves.clips(Choice(other), position))
            except CorruptRecord as error:
                damaged.append(f"{self.corpus.name(other)} ({error})")
        if len(others) < REPLACEMENTS:
            return None
        raise UserError(
            f"{self.corpus.name(example)}: damaged, and so are the {REPLACEMENTS} examples that could stand for it; "
            "the directory is not readable, run nlm prepare again"
        )

    def _smaller(self, example: int, room: Int[np.ndarray, "3"]) -> list[int]:
        """The next examples after `example` that need no more room than it."""
        fitting = np.flatnonzero((self._stored_needs <= room).all(axis=1))
        after = int(np.searchsorted(fitting, example, side="right"))
        others = np.concatenate([fitting[after:], fitting[:after]])
        return [int(e) for e in others[: REPLACEMENTS + 1] if e != example][:REPLACEMENTS]


def train_set(config: DataConfig, tokenizer: Tokenizer, fmt: Format, seed: int | None = None) -> TrainSet:
    """The endless training stream of prepared directories.

    Example:
      from nlm_jax import train_set
      from nlm_jax.data import DataConfig, Format, Tokenizer

      config = DataConfig(train=("data/mine",), seconds=2.0, rows=8)
      stream = train_set(config, Tokenizer.from_pretrained("embedded"), Format(vectors_per_clip=5))
      batch = next(stream.batches(start=0))

    Args:
      config: `config.train` names the directories, which `nlm prepare` wrote.
      tokenizer: the language model's.
      fmt: how prompt, clips and answer become tokens; `vectors_per_clip` is `QFormerConfig.vectors(config.samples)`.
      seed: of shuffle, packing and augmentation; `config.seed` if None.

    Returns:
      the stream; `batches(start)` gives numpy batches, and batch b is a function of (config, seed, b).

    Raises:
      UserError: a directory that is missing or unfinished, no example left, or one longer than a row unless
        `config.skip_long`.
    """
    corpus = open_corpus(config.train, config.train_split, config.tasks, config.domains, config.cache_gb)
    return TrainSet(corpus, tokenizer, fmt, config, config.seed if seed is None else seed)


@dataclasses.dataclass
class _HostBatches:
    """Random access to one host's batches, for grain."""

    data: TrainSet
    first_row: int
    rows: int
    closed: bool = False
    busy: list[int] = dataclasses.field(default_factory=list)
    """Batches that threads are making now."""

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, b: int) -> dict[str, Any]:
        self.busy.append(int(b))
        try:
            return self._make(int(b) * self.data.config.rows + self.first_row)
        finally:
            self.busy.remove(int(b))

    def _make(self, first: int) -> dict[str, Any]:
        fields, damaged = pack.empty(self.rows, self.data.shape), []
        for number in range(self.rows):
            if self.closed:
                raise RuntimeError("the iterator was closed")  # seen by nobody: what was made ahead is dropped
            damaged += self.data.row(first + number, {name: fields[name][number] for name in FIELDS})
        return {**fields, "damaged": damaged, "retried": (os.getpid(), self.data.corpus.retries())}


class BatchIterator(Iterator[Batch]):
    """Batches in order, made ahead by threads or worker processes. `position` counts those handed out."""

    def __init__(self, source: _HostBatches, start: int, config: DataConfig, workers: int):
        self.position = start
        self.damaged: collections.Counter[str] = collections.Counter()
        """Damaged examples met so far, by name; each was replaced."""
        self.retried: collections.Counter[str] = collections.Counter()
        """Transfers from buckets that failed and were tried again since the data was opened, by kind of error."""
        self._retried: dict[int, collections.Counter[str]] = {}  # by process; batches end in another order
        options = grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=max(1, config.prefetch))
        made = grain.MapDataset.source(source)[start:].to_iter_dataset(options)
        if workers:
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()  # grain's worker processes read absl flags, which we do not use
            made = made.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2))
        self._source, self._made, self._workers = source, iter(made), workers

    def __next__(self) -> Batch:
        made = next(self._made)
        for name in made.pop("damaged"):
            if not self.damaged[name]:
                log.warning("damaged example replaced: %s", name)
            self.damaged[name] += 1
        process, retried = made.pop("retried")
        self._retried[process] = self._retried.get(process, collections.Counter()) | retried
        self.retried = sum(self._retried.values(), collections.Counter())
        self.position += 1
        if self._workers:  # a device may keep what it is given, and what is shared must be gone when the process ends
            made = {name: np.array(value) for name, value in made.items()}
        return Batch(**made)

    def close(self) -> None:
        """Stops the threads or processes behind it; waits for the row that a thread is making, unless it takes long."""
        self._source.closed = True
        self._made.close()
        self._made = iter(())
        gc.collect()  # frees the memory that is shared with worker processes
        patience = time.monotonic() + 5.0
        while self._source.busy and time.monotonic() < patience:
            time.sleep(0.01)


def batches(
    config: DataConfig,
    tokenizer: Tokenizer,
    fmt: Format,
    *,
    seed: int | None = None,
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    workers: int | None = None,
) -> BatchIterator:
    """`train_set(config, ...).batches(...)` in one call: the host's batches from the global batch `start` on."""
    return train_set(config, tokenizer, fmt, seed).batches(start, process_index, process_count, workers)
