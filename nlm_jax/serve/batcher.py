"""Questions of many clients, answered together: a bounded queue, and one thread that owns the model."""

import concurrent.futures
import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from nlm_jax.core.errors import UserError
from nlm_jax.serve.question import Answer, Question

log = logging.getLogger(__name__)

OnText = Callable[[str], None]
"""Called with each further piece of one answer, in the model's thread."""
Answerer = Callable[[list[Question], list[OnText]], list[Answer]]
"""Answers questions of one shape; tells each one's listener the pieces of its answer as they come."""
Loader = Callable[[Callable[[str], None]], Answerer]
"""Makes the answerer, and says by its argument at what stage of loading it is."""


class Full(Exception):
    """The queue holds as much as it may."""


class Stopped(Exception):
    """The server is shutting down."""


@dataclasses.dataclass
class _Entry:
    question: Question
    on_text: OnText
    future: concurrent.futures.Future
    came: float
    told: bool = False
    """Pieces of its answer have been sent: it cannot be answered anew."""

    def tell(self, piece: str) -> None:
        self.told = True
        self.on_text(piece)


class Batcher:
    """Loads a model in a thread of its own; takes questions from any thread and answers those of one shape together.

    A batch is sent off when it is full, or `wait` seconds after its oldest question came. Questions may come while the
    model is still loading.
    """

    def __init__(
        self,
        load: Loader,
        size: int,
        wait: float,
        longest: int,
        *,
        observe: Callable[[str, float], None] = lambda name, value: None,
        on_failure: Callable[[BaseException], None] = lambda error: None,
    ):
        """`longest` questions may wait. `observe` is told of figures by name: "batch_size", "queue_seconds"."""
        self._load, self._size, self._wait, self._longest = load, size, wait, longest
        self._observe, self._on_failure = observe, on_failure
        self._entries: deque[_Entry] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self.running = 0
        """Questions that the model is working on."""
        self.load_status, self.loading_stage, self.error = "loading", "starting", ""
        self.began = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="nlm-serve", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Questions in the queue that somebody still waits for."""
        with self._changed:
            return sum(not entry.future.cancelled() for entry in self._entries)

    def ask(
        self, questions: Sequence[Question], on_text: OnText = lambda piece: None
    ) -> list[concurrent.futures.Future]:
        """Promises of an `Answer` each; cancelling one gives up its place in the queue.

        Raises:
          Full: there is not room for all of them; none was taken.
          UserError: the model could not be loaded.
          Stopped: the server is shutting down.
        """
        now = time.monotonic()
        entries = [_Entry(q, on_text, concurrent.futures.Future(), now) for q in questions]
        with self._changed:
            if self.load_status == "error":
                raise self._unloaded()
            if self._stopped:
                raise Stopped
            self._forget_cancelled()
            if len(self._entries) + len(entries) > self._longest:
                raise Full
            self._entries += entries
            self._changed.notify_all()
        return [entry.future for entry in entries]

    def close(self, timeout: float = 5.0) -> None:
        """Answers nothing any more; what waits is told so by `Stopped`."""
        self._end(Stopped())
        self._thread.join(timeout=timeout)

    def _end(self, reason: Exception) -> None:
        with self._changed:
            self._stopped = True
            for entry in self._entries:
                if entry.future.set_running_or_notify_cancel():
                    entry.future.set_exception(reason)
            self._entries.clear()
            self._changed.notify_all()

    def _unloaded(self) -> UserError:
        return UserError(f"the model could not be loaded: {self.error}")

    def _say(self, stage: str) -> None:
        self.loading_stage = stage

    def _work(self) -> None:
        try:
            answer = self._load(self._say)
        except BaseException as error:
            if not isinstance(error, UserError):
                log.exception("loading the model failed")
            self.error = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            self.load_status = "error"
            self._end(self._unloaded())
            self._on_failure(error)
            return
        self.load_status, self.loading_stage = "ready", ""
        while batch := self._gather():
            self._run(answer, batch)
            self.running = 0

    def _forget_cancelled(self) -> None:
        if any(entry.future.cancelled() for entry in self._entries):
            self._entries = deque(e for e in self._entries if not e.future.cancelled())

    def _gather(self) -> list[_Entry]:
        """The next batch: the oldest question and others of its shape. Empty once the batcher is closed."""
        with self._changed:
            while not self._stopped:
                self._forget_cancelled()
                if not self._entries:
                    self._changed.wait()
                    continue
                first = self._entries[0]
                batch = [e for e in self._entries if e.question.shape == first.question.shape][: self._size]
                left = first.came + self._wait - time.monotonic()
                if len(batch) < self._size and left > 0:
                    self._changed.wait(left)
                    continue
                batch = [e for e in batch if e.future.set_running_or_notify_cancel()]
                self._entries = deque(e for e in self._entries if not (e.future.running() or e.future.cancelled()))
                self.running = len(batch)
                if batch:
                    return batch
        return []

    def _run(self, answer: Answerer, batch: list[_Entry]) -> None:
        now = time.monotonic()
        self._observe("batch_size", len(batch))
        for entry in batch:
            self._observe("queue_seconds", now - entry.came)
        try:
            self._deliver(batch, answer([e.question for e in batch], [e.tell for e in batch]))
        except Exception as error:
            self._fail(answer, batch, error)

    def _fail(self, answer: Answerer, batch: list[_Entry], error: Exception) -> None:
        """One question that the model cannot bear must neither end the server nor take others with it."""
        if len(batch) == 1 or any(entry.told for entry in batch):
            log.error("answering failed", exc_info=error)
            for entry in batch:
                entry.future.set_exception(error)
            return
        for entry in batch:
            try:
                self._deliver([entry], answer([entry.question], [entry.tell]))
            except Exception as alone:
                self._fail(answer, [entry], alone)

    @staticmethod
    def _deliver(batch: list[_Entry], answers: Sequence[Any]) -> None:
        for entry, found in zip(batch, answers, strict=True):
            entry.future.set_result(found)
