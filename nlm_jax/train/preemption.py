"""Ctrl-C and SIGTERM as a wish, not an accident: the loop finishes its step, saves, and leaves."""

import contextlib
import dataclasses
import itertools
import signal
import threading
from collections.abc import Iterator

import numpy as np
from jax.experimental import multihost_utils

from nlm_jax.mesh import hosts
from nlm_jax.train.throughput import IN_FLIGHT

AHEAD = IN_FLIGHT + 1
"""Steps from the one in which a process is told to stop to the one after which all of them do.

No process starts step n + AHEAD before step n + 1 is done, which takes part of the process that was told before n + 1.
"""
_runs = itertools.count()


@dataclasses.dataclass
class Stop:
    """The first signal that came, if any."""

    signal: int | None = None
    key: str = dataclasses.field(default_factory=lambda: f"nlm/stop/{next(_runs)}")
    """Under which the processes of a job tell each other where to stop."""

    def agreed(self, step: int) -> bool:
        """Whether to stop after this step, asked before each. All processes stop after the same one.

        Args:
          step: steps done in all stages of the run.
        """
        if not hosts.is_multiprocess():
            return self.signal is not None
        word = hosts.lookup(self.key)
        if word is None and self.signal:
            word = hosts.publish(self.key, f"{step + AHEAD} {self.signal}")
        if word is None:
            return False
        last, self.signal = map(int, word.split())
        return step >= last

    def agreed_between(self) -> bool:
        """The same between two stages, where all processes wait for each other."""
        if hosts.is_multiprocess():
            self.signal = int(multihost_utils.process_allgather(np.array(self.signal or 0)).max()) or None
        return self.signal is not None

    @property
    def status(self) -> int:
        """Exit status: 0 after SIGTERM, which asks for the machine and not for the run, else what a shell reports."""
        return 128 + self.signal if self.signal not in (None, signal.SIGTERM) else 0


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
