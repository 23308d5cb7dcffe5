"""Questions of many clients, answered together: a bounded queue, and one thread that owns the model."""

import concurrent.futures
import dataclasses
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked of the model: the clips, f32[T] each, the text, and the longest answer in tokens."""

    clips: tuple[np.ndarray, ...]
    text: str
    max_tokens: int

    @property
    def shape(self) -> tuple[Any, ...]:
        """Questions of one shape can be answered together without compiling anew."""
        return self.max_tokens, tuple(clip.size for clip in self.clips)


class Full(Exception):
    """The queue holds as much as it may."""


class Batcher:
    """Takes questions from any thread and answers those of one shape in batches.

    A batch is sent off when it is full, or `wait` seconds after its first question came.
    """

    def __init__(self, answer: Callable[[list[Question]], list[str]], size: int, wait: float, longest: int):
        self._answer, self._size, self._wait = answer, size, wait
        self._queue: queue.Queue = queue.Queue(longest)
        self._stopped = threading.Event()
        self.batches, self.answered = 0, 0
        self._thread = threading.Thread(target=self._work, name="nlm-serve", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Questions in the queue."""
        return self._queue.qsize()

    def ask(self, question: Question) -> concurrent.futures.Future:
        """A promise of the answer. Raises `Full` where too many are waiting already."""
        future: concurrent.futures.Future = concurrent.futures.Future()
        try:
            self._queue.put_nowait((question, future))
        except queue.Full:
            raise Full from None
        return future

    def close(self) -> None:
        """Answers nothing any more; what waits is cancelled."""
        self._stopped.set()
        self._thread.join(timeout=5)
        while not self._queue.empty():
            self._queue.get_nowait()[1].cancel()

    def _work(self) -> None:
        held: list[tuple[Question, concurrent.futures.Future]] = []  # came with a batch of another shape
        while not self._stopped.is_set():
            batch = self._gather(held)
            if batch:
                self._run(batch)

    def _gather(self, held: list) -> list:
        """The next batch: the oldest question, and others of its shape that come in time. Others go to `held`."""
        try:
            first = held.pop(0) if held else self._queue.get(timeout=0.1)
        except queue.Empty:
            return []
        shape, batch = first[0].shape, [first]
        for entry in [e for e in held if e[0].shape == shape][: self._size - 1]:
            held.remove(entry)
            batch.append(entry)
        until = time.monotonic() + self._wait
        while len(batch) < self._size and len(held) < self._size:
            try:
                entry = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            (batch if entry[0].shape == shape else held).append(entry)
        return batch

    def _run(self, batch: list) -> None:
        live = [(q, f) for q, f in batch if f.set_running_or_notify_cancel()]
        if not live:
            return
        try:
            answers = self._answer([question for question, _ in live])
        except Exception as error:  # one bad batch must not end the server
            for _, future in live:
                future.set_exception(error)
            return
        self.batches += 1
        self.answered += len(live)
        for (_, future), answer in zip(live, answers, strict=True):
            future.set_result(answer)
