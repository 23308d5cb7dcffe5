"""Rows into batches, in order and prefetched by threads or worker processes."""

import collections
import gc
import logging
import os
import threading
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import grain
import numpy as np
from absl import flags

from nlm_jax.core.batch import FIELDS, Batch
from nlm_jax.data import pack

log = logging.getLogger(__name__)
ENDLESS = 1 << 40
"""Length that the stream of batches reports to grain."""
CLOSE_SECONDS = 5.0
"""How long `BatchIterator.close` waits for rows that threads are building."""


@runtime_checkable
class RowSource(Protocol):
    """Builds rows by their number."""

    shape: pack.RowShape

    def build_row(self, r: int, fields: dict[str, np.ndarray]) -> list[str]:
        """Writes row `r` into empty fields; returns the names of damaged examples that were replaced."""

    def retries(self) -> collections.Counter[str]:
        """Transfers that this process retried so far, by kind of error."""


class HostBatches:
    """One host's share of the batches, as a grain data source.

    Args:
      source: of the rows.
      rows: of the global batch.
      first_row: of this host within the batch.
      host_rows: of this host.
    """

    def __init__(self, source: RowSource, rows: int, first_row: int, host_rows: int):
        self._source, self._rows, self._first_row, self._host_rows = source, rows, first_row, host_rows
        self._closed = False
        self._building = 0
        self._changed = threading.Condition()

    def __reduce__(self):
        return HostBatches, (self._source, self._rows, self._first_row, self._host_rows)

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, b: int) -> dict[str, Any]:
        with self._changed:
            self._building += 1
        try:
            return self._build(int(b) * self._rows + self._first_row)
        finally:
            with self._changed:
                self._building -= 1
                self._changed.notify_all()

    def _build(self, first: int) -> dict[str, Any]:
        fields, damaged = pack.empty(self._host_rows, self._source.shape), []
        for k in range(self._host_rows):
            if self._closed:
                raise RuntimeError("the iterator was closed")  # grain drops it with the batches that were prefetched
            damaged += self._source.build_row(first + k, {name: fields[name][k] for name in FIELDS})
        return {**fields, "damaged": damaged, "retried": (os.getpid(), self._source.retries())}

    def close(self) -> None:
        """Stops batches that threads of this process are building, and waits for them up to `CLOSE_SECONDS`."""
        self._closed = True
        with self._changed:
            self._changed.wait_for(lambda: not self._building, CLOSE_SECONDS)


class BatchIterator(Iterator[Batch]):
    """Batches in order. `position` is the number of the next one.

    Args:
      batches: this host's share.
      start: the first batch.
      threads: that build batches, in each process.
      prefetch: batches built ahead.
      workers: processes that build batches; 0 = threads of this process.
    """

    def __init__(self, batches: HostBatches, start: int, threads: int, prefetch: int, workers: int):
        self.position = start
        self.damaged: collections.Counter[str] = collections.Counter()
        """Damaged examples so far, by name; each was replaced."""
        self.retried: collections.Counter[str] = collections.Counter()
        """Transfers from buckets that were retried since the data was opened, by kind of error."""
        # By process, as each reports its total; batches of several workers may be built out of order.
        self._retried: dict[int, collections.Counter[str]] = {}
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(1, prefetch))
        dataset = grain.MapDataset.source(batches)[start:].to_iter_dataset(options)
        if workers:
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()  # grain's worker processes read absl flags, which we do not use
            dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2))
        self._batches, self._iterator, self._workers = batches, iter(dataset), workers

    def __next__(self) -> Batch:
        fields = next(self._iterator)
        for name in fields.pop("damaged"):
            if not self.damaged[name]:
                log.warning("damaged example replaced: %s", name)
            self.damaged[name] += 1
        process, retried = fields.pop("retried")
        self._retried[process] = self._retried.get(process, collections.Counter()) | retried
        self.retried = sum(self._retried.values(), collections.Counter())
        self.position += 1
        if self._workers:  # copied: a device may hold on to the arrays, and shared memory must be freed before exit
            fields = {name: np.array(value) for name, value in fields.items()}
        return Batch(**fields)

    def close(self) -> None:
        """Stops the threads or worker processes; batches built ahead are dropped."""
        iterator, self._iterator = self._iterator, iter(())
        iterator.close()
        del iterator
        gc.collect()  # frees the memory that is shared with worker processes
        self._batches.close()
