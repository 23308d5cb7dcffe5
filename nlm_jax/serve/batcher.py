"""Questions of many clients on their way to the model: a bounded queue, and one thread that feeds the model from it."""

import concurrent.futures
import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from nlm_jax.core.errors import UserError
from nlm_jax.serve.types import Answerer, Loader, OnText, Question

log = logging.getLogger(__name__)


class Full(Exception):
    """The queue holds as much as it may."""


class Stopped(Exception):
    """The server is shutting down."""


@dataclasses.dataclass(eq=False)
class _Entry:
    question: Question | None
    """None once it is answered: futures and their callbacks know each other, and may be freed much later."""
    on_text: OnText | None
    future: concurrent.futures.Future
    came: float
    sent: bool = False
    """Pieces of its answer went to the client: it cannot be asked again."""
    alone: bool = False
    """The model failed while it worked on this one: it is asked once more, with no other beside it."""

    def send(self, piece: str) -> None:
        """A further piece, for a client that wants pieces."""
        if self.on_text is not None:
            self.sent = True
            self.on_text(piece)


class Batcher:
    """Loads a model in a thread of its own; takes questions from any thread and has `slots` of them answered at a time.

    A model that has nothing to do waits up to `wait` seconds for others to come with the first question; one that is
    busy gets the next as soon as an answer is done. Questions may come while the model is still loading.
    """

    def __init__(
        self,
        load: Loader,
        slots: int,
        wait: float,
        longest: int,
        *,
        observe: Callable[[str, float], None] = lambda name, value: None,
        on_failure: Callable[[BaseException], None] = lambda error: None,
    ):
        """`longest` questions may wait. `observe` is told of figures by name: "batch_size", "queue_seconds"."""
        self._load, self._slots, self._wait, self._longest = load, slots, wait, longest
        self._observe, self._on_failure = observe, on_failure
        self._entries: deque[_Entry] = deque()
        self._asked: dict[_Entry, concurrent.futures.Future] = {}
        self._changed = threading.Condition(threading.RLock())  # callbacks of futures may come in any thread
        self._stopped = False
        self._answerer: Answerer | None = None
        self.load_status, self.loading_stage, self.error = "loading", "starting", ""
        self.began = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="nlm-serve", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Questions in the queue that somebody still waits for."""
        with self._changed:
            return sum(not entry.future.cancelled() for entry in self._entries)

    @property
    def revision(self) -> str:
        """What weights answer; "" before they are loaded, or if the answerer does not say."""
        return getattr(self._answerer, "revision", "")

    @property
    def running(self) -> int:
        """Questions that the model is working on."""
        return len(self._asked)

    def ask(self, questions: Sequence[Question], on_text: OnText | None = None) -> list[concurrent.futures.Future]:
        """Promises of an `Answer` each; cancelling one gives up its place.

        Args:
          on_text: called with each piece of an answer, which then cannot be asked again if the model fails.

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

    def close(self, timeout: float = 10.0) -> None:
        """Answers nothing any more; who waits is told so by `Stopped`."""
        self._end(Stopped())
        self._thread.join(timeout=timeout)
        if self._answerer is not None:
            self._answerer.close()

    def _end(self, reason: Exception) -> None:
        with self._changed:
            self._stopped = True
            for entry in self._entries:
                _settle(entry, error=reason)
            self._entries.clear()
            self._changed.notify_all()

    def _unloaded(self) -> UserError:
        return UserError(f"the model could not be loaded: {self.error}")

    def _say(self, stage: str) -> None:
        self.loading_stage = stage

    def _work(self) -> None:
        try:
            answerer = self._answerer = self._load(self._say)
        except BaseException as error:
            if not isinstance(error, UserError):
                log.exception("loading the model failed")
            self.error = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            self.load_status = "error"
            self._end(self._unloaded())
            self._on_failure(error)
            return
        self.load_status, self.loading_stage = "ready", ""
        while entry := self._next():
            self._observe("queue_seconds", time.monotonic() - entry.came)
            self._observe("batch_size", self.running)
            try:
                future = answerer.submit(entry.question, entry.send)
            except Exception as error:
                self._done(entry, error=error)
                continue
            self._asked[entry] = future
            entry.future.add_done_callback(lambda f, inner=future: inner.cancel() if f.cancelled() else None)
            future.add_done_callback(lambda f, entry=entry: self._answered(entry, f))

    def _forget_cancelled(self) -> None:
        if any(entry.future.cancelled() for entry in self._entries):
            self._entries = deque(e for e in self._entries if not e.future.cancelled())

    def _next(self) -> _Entry | None:
        """The oldest question, once the model may have it. None once the batcher is closed."""
        with self._changed:
            while not self._stopped:
                self._forget_cancelled()
                if not self._entries or len(self._asked) >= self._slots:
                    self._changed.wait()
                    continue
                first, busy = self._entries[0], bool(self._asked)
                if busy and (first.alone or any(entry.alone for entry in self._asked)):
                    self._changed.wait()
                    continue
                left = first.came + self._wait - time.monotonic()
                if not busy and not first.alone and left > 0 and len(self._entries) < self._slots:
                    self._changed.wait(left)
                    continue
                entry = self._entries.popleft()
                self._asked[entry] = concurrent.futures.Future()  # it counts from now on
                return entry
        return None

    def _answered(self, entry: _Entry, future: concurrent.futures.Future) -> None:
        if future.cancelled():
            self._done(entry, error=Stopped())
        elif error := future.exception():
            self._done(entry, error=error)
        else:
            self._done(entry, answer=future.result())

    def _done(self, entry: _Entry, answer=None, error: BaseException | None = None) -> None:
        """One question that the model cannot bear must neither end the server nor take others with it."""
        with self._changed:
            self._asked.pop(entry, None)
            failed = error is not None and not isinstance(error, UserError | Stopped)
            if failed and not (entry.alone or entry.sent or self._stopped or entry.future.cancelled()):
                entry.alone = True
                self._entries.appendleft(entry)
            else:
                if failed:
                    log.error("answering failed", exc_info=error)
                _settle(entry, answer, error)
            self._changed.notify_all()


def _settle(entry: _Entry, answer=None, error: BaseException | None = None) -> None:
    """Tells whoever still waits."""
    entry.question = None
    if entry.future.set_running_or_notify_cancel():
        if error is not None:
            entry.future.set_exception(error)
        else:
            entry.future.set_result(answer)
