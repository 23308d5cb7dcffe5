"""Ctrl-C and SIGTERM as a wish, not an accident: the loop finishes its step, saves, and leaves."""

import contextlib
import dataclasses
import signal
import threading
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils


@dataclasses.dataclass
class Stop:
    """The first signal that came, if any."""

    signal: int | None = None

    def agreed(self, step: int, every: int) -> bool:
        """Whether to stop after this step. Several processes ask each other each `every` steps, to stop together."""
        if jax.process_count() == 1:
            return self.signal is not None
        if step % every:
            return False
        self.signal = int(multihost_utils.process_allgather(np.array(self.signal or 0)).max()) or None
        return self.signal is not None

    @property
    def status(self) -> int:
        """Exit status a shell would report for the signal, 0 without one."""
        return 128 + self.signal if self.signal else 0


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """Catches the first SIGINT or SIGTERM; a second one acts as it always does. Inactive outside the main thread."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def handle(number, _frame):
        stop.signal = number
        for s, handler in before.items():
            signal.signal(s, handler)

    for s in before:
        signal.signal(s, handle)
    try:
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
