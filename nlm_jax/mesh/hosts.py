"""Several processes as one job: what they tell each other, and how they leave."""

import atexit
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax._src import distributed  # the key-value store of the job has no public name

from nlm_jax.core.errors import UserError

FAREWELL = 5.0
"""Seconds the first process, which the others cannot outlive, gives them to report the same mistake."""
LOST = re.compile(r"gloo|nccl|connection|socket|peer|heartbeat|barrier|coordination|unhealthy|preempt", re.IGNORECASE)
"""Errors of the runtime that tell of another process; any other is a defect, and its trace is wanted."""
WATCH = "import sys; sys.stdin.read() or print(sys.argv[1], file=sys.stderr)"


def several() -> bool:
    """Whether this process has joined others. Unlike jax.process_count() it starts no device."""
    return distributed.global_state.client is not None and distributed.global_state.num_processes > 1


def me() -> str:
    """This process by number and host, as messages name it."""
    state = distributed.global_state
    return f"process {state.process_id} of {state.num_processes} on {socket.gethostname()}"


AGAIN = "start the job again, it goes on from its last checkpoint"
_sentinel: subprocess.Popen | None = None


def watch() -> None:
    """Starts a helper that tells why this process is gone, should it go without a word.

    When another process dies, the runtime of jax aborts this one from a thread of C++, and no code of Python runs.
    """
    global _sentinel
    text = f"nlm: error: {me()} was ended: another process of the job is gone, or this one was killed; {AGAIN}"
    command = [sys.executable, "-ISc", WATCH, text]
    _sentinel = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    atexit.register(dismiss)


def dismiss() -> None:
    """The helper is not needed: this process ends in order."""
    global _sentinel
    if _sentinel is not None:
        with contextlib.suppress(BrokenPipeError):
            _sentinel.communicate(b".")
        _sentinel = None


def tell(key: str, value: str) -> str:
    """Sets `key` for all processes, unless one of them has; gives what it is set to now."""
    client = distributed.global_state.client
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # another process was faster
        client.key_value_set(key, value)
    return client.blocking_key_value_get(key, 60_000)


def told(key: str) -> str | None:
    """What a process has set `key` to."""
    try:
        return distributed.global_state.client.key_value_try_get(key)
    except jax.errors.JaxRuntimeError as error:
        if "NOT_FOUND" not in str(error):
            raise
        return None


def first_does(key: str, do: Callable[[], Any]) -> Any:
    """Has the first process do something for all of them, which wait for it however long it takes.

    Args:
      key: of this one occasion.
      do: gives what JSON can hold.

    Raises:
      UserError: what `do` raised, in every process.
    """
    if not several():
        return do()
    if distributed.global_state.process_id == 0:
        try:
            outcome = {"result": do()}
        except UserError as error:
            outcome = {"error": str(error)}
        tell(key, json.dumps(outcome))
    else:
        while (word := told(key)) is None:
            time.sleep(0.05)
        outcome = json.loads(word)
    if "error" in outcome:
        raise UserError(outcome["error"])
    return outcome["result"]


@contextlib.contextmanager
def leaving() -> Iterator[None]:
    """An error in one of several processes ends it at once, so that the others notice and do not wait for it.

    The ordinary way out (closing checkpoints, leaving the job) waits for all of them, who wait for this one in a
    collective. It has therefore to stand within whatever is closed on the way.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if not several():
            raise
        lost = isinstance(error, jax.errors.JaxRuntimeError | TimeoutError) and LOST.search(str(error))
        if isinstance(error, UserError):
            print(f"nlm: error: {error}", file=sys.stderr)
        elif lost:
            reason = " ".join(str(error).split())[:200]
            print(f"nlm: error: {me()} lost another process of the job; {AGAIN} ({reason})", file=sys.stderr)
        elif isinstance(error, KeyboardInterrupt):
            print("nlm: interrupted", file=sys.stderr)
        else:
            traceback.print_exc()
        if not lost:
            farewell()
        dismiss()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2 if isinstance(error, UserError) else 130 if isinstance(error, KeyboardInterrupt) else 1)


def farewell() -> None:
    """Process 0 waits a moment for the others: its end is theirs, and they may have the same to say."""
    state = distributed.global_state
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        tell(f"nlm/left/{state.process_id}", "1")
        end = time.monotonic() + FAREWELL
        for other in range(1, state.num_processes) if state.process_id == 0 else ():
            while told(f"nlm/left/{other}") is None and time.monotonic() < end:
                time.sleep(0.05)
