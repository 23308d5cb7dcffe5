"""The request queue of an engine: bounded admission, batching, cancellation, and retries after a device failure.

It knows nothing of models: a subclass of `Scheduler` computes what the requests in its slots need.
"""

import collections
import concurrent.futures
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from nlm_jax.core.errors import UserError

log = logging.getLogger(__name__)


class QueueFull(Exception):
    """More requests are unfinished than the engine takes."""


class EngineClosed(UserError):
    """The engine takes no more requests, and answers none."""


@dataclasses.dataclass(frozen=True)
class Admission:
    """When requests are accepted, and when they get a slot."""

    capacity: int | None = None
    """Maximum number of unfinished requests, waiting or running; None = unbounded."""
    batch_wait: float = 0.0
    """Seconds for which an idle engine with a thread waits, from its first request on, for others to fill its slots."""
    on_start: Callable[[float, int], None] = lambda seconds, running: None
    """Called as a request gets a slot: its seconds in the queue, and the number of requests that now have a slot."""


@dataclasses.dataclass(eq=False, kw_only=True)
class Job:
    """A request as the scheduler sees it: its future gets the answer; cancelling that frees its slot."""

    future: concurrent.futures.Future = dataclasses.field(default_factory=concurrent.futures.Future)
    queued_at: float = 0.0
    """`time.monotonic` at which it joined the queue."""
    alone: bool = False
    """A device failure interrupted it: it is computed once more, with no other request next to it."""

    def fail(self, error: BaseException) -> None:
        """Sets the exception of the future, unless it is done."""
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)

    def restart(self) -> bool:
        """Discards the partial answer. Returns False if it cannot be computed again, as the caller has part of it."""
        return True


J = TypeVar("J", bound=Job)


class Scheduler(Generic[J]):
    """A first-in, first-out queue before a fixed number of slots, and the thread that works through it.

    Used as a context manager it has a thread of its own, and requests may come from any thread. Without, nothing
    happens until `run` or `step` is called.

    If a step fails, the requests in the slots are computed again one by one, so that the request that caused it is the
    only one to fail. Those whose callers have received part of the answer fail at once. (Without a thread the exception
    goes to the caller of `step`.)
    """

    def __init__(self, slots: int, admission: Admission | None = None):
        """A scheduler with empty slots.

        Args:
          slots: requests that are computed together.
          admission: the bounds of the queue; unbounded and without waiting if None.
        """
        self.running: list[J | None] = [None] * slots
        """The request in each slot."""
        self._admission = admission or Admission()
        self._waiting: collections.deque[J] = collections.deque()
        self._changed = threading.Condition(threading.RLock())  # callbacks of futures may come in any thread
        self._stepping = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    # --- what a subclass computes

    def prepare(self, job: J) -> None:
        """Checks a request before it joins the queue, in the caller's thread. Raises UserError if it is invalid."""

    def group_size(self, ready: int) -> int:
        """How many of `ready` requests, for which there are free slots, are prefilled together."""
        return ready

    def prefill(self, group: list[J], slots: list[int], upcoming: list[J]) -> None:
        """Starts requests in their slots. `upcoming`: the next requests of the queue, still without a slot."""
        raise NotImplementedError

    def decode(self) -> None:
        """Advances the requests of all slots; the slots of those that are answered are set to None."""
        raise NotImplementedError

    def reset(self) -> None:
        """Frees the memory of all slots."""

    # --- the queue

    @property
    def waiting(self) -> int:
        """Requests without a slot that have not been cancelled."""
        with self._changed:
            return sum(not job.future.cancelled() for job in self._waiting)

    @property
    def active(self) -> int:
        """Slots that are in use."""
        return sum(job is not None for job in self.running)

    @property
    def unfinished(self) -> int:
        """Requests that wait or run, without those that have been cancelled."""
        with self._changed:
            return sum(job is not None and not job.future.done() for job in (*self._waiting, *self.running))

    def enqueue(self, job: J) -> concurrent.futures.Future:
        """Puts a request at the end of the queue; see `enqueue_all`."""
        return self.enqueue_all([job])[0]

    def enqueue_all(self, jobs: Sequence[J]) -> list[concurrent.futures.Future]:
        """Puts requests at the end of the queue, all or none.

        Returns:
          the future of each.

        Raises:
          UserError: a request is invalid.
          QueueFull: the capacity does not suffice for all.
          EngineClosed: the engine is closed.
        """
        for job in jobs:
            self.prepare(job)
        capacity = self._admission.capacity
        with self._changed:
            if self._closed:
                raise EngineClosed("the engine is closed; make another one")
            if capacity is not None and self.unfinished + len(jobs) > capacity:
                raise QueueFull
            for job in jobs:
                job.queued_at = time.monotonic()
            self._waiting += jobs
            self._changed.notify_all()
        return [job.future for job in jobs]

    # --- the loop

    def run(self) -> None:
        """Computes in this thread until all requests are answered."""
        while self.step():
            pass

    def step(self) -> bool:
        """Fills free slots from the queue and advances all of them. Returns whether any request is unfinished.

        On a mesh of several processes each of them must take the same steps.
        """
        with self._stepping:
            while self._fill_free_slots():
                pass
            if self.active:
                self.decode()
        return bool(self.active or self._waiting)

    def start(self) -> None:
        """Starts the thread that computes whatever is enqueued."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="nlm-engine", daemon=True)
            self._thread.start()

    def close(self, error: Exception | None = None) -> None:
        """Takes no more requests and frees the memory of the slots; a step under way is completed.

        Args:
          error: what unfinished requests fail with; they are cancelled if None.
        """
        with self._changed:
            self._closed = True
            unfinished = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        _end(unfinished, error)
        if self._thread is not None:
            self._thread.join()
        with self._changed:
            unfinished = self._clear_slots() + list(self._waiting)
            self._waiting.clear()
        _end(unfinished, error)
        self.reset()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closed and not self.active and (delay := self._delay()) != 0:
                    self._changed.wait(delay)
                if self._closed:
                    return
            try:
                self.step()
            except Exception as error:  # of the device: later requests may succeed
                log.exception("answering failed")
                self._recover(error)

    def _delay(self) -> float | None:
        """Seconds until an idle engine starts the first request; None if there is none."""
        self._drop_cancelled()
        if not self._waiting:
            return None
        first = self._waiting[0]
        if first.alone or len(self._waiting) >= len(self.running):
            return 0.0
        return max(0.0, first.queued_at + self._admission.batch_wait - time.monotonic())

    def _fill_free_slots(self) -> bool:
        """Prefills one group of requests. Returns False if no request can get a slot."""
        with self._changed:
            self._drop_cancelled()
            free = [slot for slot, job in enumerate(self.running) if job is None]
            if not free or not self._waiting or any(job is not None and job.alone for job in self.running):
                return False
            alone = self._waiting[0].alone
            if alone and self.active:
                return False
            ready = 1 if alone else min(len(free), len(self._waiting))
            group = [self._waiting.popleft() for _ in range(self.group_size(ready))]
            slots = free[: len(group)]
            for slot, job in zip(slots, group, strict=True):
                self.running[slot] = job  # before anything can fail, so that `_recover` finds it
                self._admission.on_start(time.monotonic() - job.queued_at, self.active)
            upcoming = [] if alone else list(self._waiting)
        self.prefill(group, slots, upcoming)
        return True

    def _drop_cancelled(self) -> None:
        for slot, job in enumerate(self.running):
            if job is not None and job.future.cancelled():
                self.running[slot] = None
        if any(job.future.cancelled() for job in self._waiting):
            self._waiting = collections.deque(job for job in self._waiting if not job.future.cancelled())

    def _recover(self, error: Exception) -> None:
        """Queues the requests of all slots again, to be computed alone; those that cannot be fail with `error`."""
        with self._changed:
            failed, retried = [], []
            for job in self._clear_slots():
                again = not (job.alone or self._closed or job.future.done()) and job.restart()
                (retried if again else failed).append(job)
                job.alone = True
            self._waiting.extendleft(reversed(retried))
        self.reset()
        for job in failed:
            job.fail(error)

    def _clear_slots(self) -> list[J]:
        """Empties all slots. Returns the requests that were in them."""
        jobs = [job for job in self.running if job is not None]
        self.running = [None] * len(self.running)
        return jobs


def _end(jobs: Sequence[Job], error: Exception | None) -> None:
    for job in jobs:
        if error is None:
            job.future.cancel()
        else:
            job.fail(error)
