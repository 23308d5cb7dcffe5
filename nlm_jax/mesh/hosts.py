"""Coordination of the processes of one job: shared keys, work of the first process, and orderly exit after errors."""

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

EXIT_GRACE = 5.0
"""Seconds that process 0, whose exit ends the others, waits for them to report the same error."""
LOST_PEER = re.compile(
    r"gloo|nccl|connection|socket|peer|heartbeat|barrier|coordination|unhealthy|preempt", re.IGNORECASE
)
"""Errors of the runtime that are caused by another process; any other is a bug, whose trace is printed."""
WATCHER = "import sys; sys.stdin.read() or print(sys.argv[1], file=sys.stderr)"


def is_multiprocess() -> bool:
    """Whether this process has joined others. Unlike jax.process_count() it initializes no device."""
    return distributed.global_state.client is not None and distributed.global_state.num_processes > 1


def process_name() -> str:
    """Number and host of this process, for messages."""
    state = distributed.global_state
    return f"process {state.process_id} of {state.num_processes} on {socket.gethostname()}"


RESTART = "start the job again, it resumes from its last checkpoint"
_watcher: subprocess.Popen | None = None


def start_watcher() -> None:
    """Starts a subprocess that prints the reason if this process is aborted.

    When another process dies, the runtime of jax aborts this one from a C++ thread, and no Python code runs.
    """
    global _watcher
    text = f"nlm: error: {process_name()} was ended: another process of the job died, or this one was killed; {RESTART}"
    command = [sys.executable, "-ISc", WATCHER, text]
    _watcher = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    atexit.register(stop_watcher)


def stop_watcher() -> None:
    """Ends the watcher silently: this process exits in order."""
    global _watcher
    if _watcher is not None:
        with contextlib.suppress(BrokenPipeError):
            _watcher.communicate(b".")
        _watcher = None


def publish(key: str, value: str) -> str:
    """Sets `key` for all processes unless another process has set it already; returns its value."""
    client = distributed.global_state.client
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # another process was faster
        client.key_value_set(key, value)
    return client.blocking_key_value_get(key, 60_000)


def lookup(key: str) -> str | None:
    """Value of a key that some process has published; None if it is not set."""
    try:
        return distributed.global_state.client.key_value_try_get(key)
    except jax.errors.JaxRuntimeError as error:
        if "NOT_FOUND" not in str(error):
            raise
        return None


def run_on_first(key: str, work: Callable[[], Any]) -> Any:
    """Runs `work` on process 0 only; the other processes wait for its result without a time limit.

    Args:
      key: unique key of this call, the same in every process.
      work: returns a JSON value.

    Returns:
      the result of `work`, in every process.

    Raises:
      UserError: raised by `work`, in every process.
    """
    if not is_multiprocess():
        return work()
    if distributed.global_state.process_id == 0:
        try:
            outcome = {"result": work()}
        except UserError as error:
            outcome = {"error": str(error)}
        publish(key, json.dumps(outcome))
    else:
        while (message := lookup(key)) is None:
            time.sleep(0.05)
        outcome = json.loads(message)
    if "error" in outcome:
        raise UserError(outcome["error"])
    return outcome["result"]


@contextlib.contextmanager
def exit_on_error() -> Iterator[None]:
    """Exits a process of a multi-process job at once after an error, so that the others do not wait for it.

    The ordinary exit (closing checkpoints, leaving the job) waits for the other processes, which wait for this one in a
    collective. Use this context inside the contexts that close such resources.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if not is_multiprocess():
            raise
        lost_peer = isinstance(error, jax.errors.JaxRuntimeError | TimeoutError) and LOST_PEER.search(str(error))
        if isinstance(error, UserError):
            print(f"nlm: error: {error}", file=sys.stderr)
        elif lost_peer:
            reason = " ".join(str(error).split())[:200]
            print(
                f"nlm: error: {process_name()} lost another process of the job; {RESTART} ({reason})", file=sys.stderr
            )
        elif isinstance(error, KeyboardInterrupt):
            print("nlm: interrupted", file=sys.stderr)
        else:
            traceback.print_exc()
        if not lost_peer:
            wait_for_others()
        stop_watcher()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2 if isinstance(error, UserError) else 130 if isinstance(error, KeyboardInterrupt) else 1)


def wait_for_others() -> None:
    """Makes process 0 wait for up to `EXIT_GRACE` seconds: its exit ends the others, which may report errors too."""
    state = distributed.global_state
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        publish(f"nlm/left/{state.process_id}", "1")
        end = time.monotonic() + EXIT_GRACE
        for other in range(1, state.num_processes) if state.process_id == 0 else ():
            while lookup(f"nlm/left/{other}") is None and time.monotonic() < end:
                time.sleep(0.05)
