"""Graceful shutdown on SIGINT and SIGTERM: the loop finishes its step, saves a checkpoint and exits."""

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
"""Steps between the one in which a process gets a signal and the one after which all processes stop.

No process starts step n + AHEAD before step n + 1 is done, in which the signalled process takes part after it published
where to stop.
"""
_runs = itertools.count()


@dataclasses.dataclass
class Stop:
    """Whether to stop, and the signal that asked for it."""

    signal: int | None = None
    """The first signal of this process or, once all processes agreed, of any."""
    key: str = dataclasses.field(default_factory=lambda: f"nlm/stop/{next(_runs)}")
    """Key in the job's key-value store of the last step before stopping."""

    def all_hosts_agree(self, step: int) -> bool:
        """Whether to stop now; called before each step. All processes stop after the same step.

        Args:
          step: steps done in all stages of the run.
        """
        if not hosts.is_multiprocess():
            return self.signal is not None
        published = hosts.lookup(self.key)
        if published is None and self.signal:
            published = hosts.publish(self.key, f"{step + AHEAD} {self.signal}")
        if published is None:
            return False
        last, self.signal = map(int, published.split())
        return step >= last

    def all_hosts_agree_between_stages(self) -> bool:
        """Whether to stop after a stage: yes if any process got a signal. All processes wait for each other here."""
        if hosts.is_multiprocess():
            self.signal = int(multihost_utils.process_allgather(np.array(self.signal or 0)).max()) or None
        return self.signal is not None

    @property
    def status(self) -> int:
        """Exit status: 0 after SIGTERM, by which a scheduler takes back the machine, else the shell's 128 + signal."""
        return 128 + self.signal if self.signal not in (None, signal.SIGTERM) else 0


@contextlib.contextmanager
def catch_signals() -> Iterator[Stop]:
    """Catches the first SIGINT or SIGTERM; a second one has its usual effect. No effect outside the main thread."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number, _frame) -> None:
        stop.signal = number
        restore()

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()
