"""Several processes as one job: how they find each other, what they tell each other, and how they leave."""

import atexit
import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax._src import distributed  # the key-value store of the job has no public name

from nlm_jax.core.errors import UserError

ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
JOIN, HEARTBEAT = "NLM_JOIN_SECONDS", "NLM_HEARTBEAT_SECONDS"
POD_INDEX = "JOB_COMPLETION_INDEX"
"""What Kubernetes calls a pod of an indexed Job or JobSet."""
FAREWELL = 5.0
"""Seconds the first process, which the others cannot outlive, gives them to report the same mistake."""
LOST = re.compile(r"gloo|nccl|connection|socket|peer|heartbeat|barrier|coordination|unhealthy|preempt", re.IGNORECASE)
"""Errors of the runtime that tell of another process; any other is a defect, and its trace is wanted."""
WATCH = "import sys; sys.stdin.read() or print(sys.argv[1], file=sys.stderr)"


def initialize_distributed() -> None:
    """Joins the other processes of the job; call it before anything asks for a device.

    They are found through `JAX_COORDINATOR_ADDRESS` (host:port of process 0), `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`
    (without it, the index Kubernetes gives the pods of a JobSet), or by what TPU pods, GKE, Slurm and Open MPI set.
    `NLM_JOIN_SECONDS` (300) is how long they may take to come together. A process that is not heard of for
    `NLM_HEARTBEAT_SECONDS` (60) is given up, and the others end.

    Raises:
      UserError: the environment does not say where the others are, or says what cannot be.
    """
    join, heartbeat = seconds(os.environ, JOIN, 300), seconds(os.environ, HEARTBEAT, 60)
    found = addresses(os.environ)
    if found.get("process_id") == 0:
        check_port(found["coordinator_address"])
    # Its handler would take SIGTERM away from train/interrupt.py.
    jax.config.update("jax_enable_preemption_service", False)
    # The runtime aborts with a C++ trace when nobody comes; this is earlier, and says what to do.
    late = threading.Timer(join, give_up, (join,))
    late.daemon = True
    late.start()
    try:
        jax.distributed.initialize(
            **found,
            initialization_timeout=join + 60,
            heartbeat_timeout_seconds=heartbeat,
            shutdown_timeout_seconds=heartbeat,
        )
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"config.mesh.distributed: the other processes were not found ({reason}); set {ADDRESS}=host:port, {COUNT} "
            f"and {INDEX} for each process, start it under Slurm or on a TPU pod, or leave config.mesh.distributed off"
        ) from None
    finally:
        late.cancel()
    if several():
        watch()


def several() -> bool:
    """Whether this process has joined others. Unlike jax.process_count() it starts no device."""
    return distributed.global_state.client is not None and distributed.global_state.num_processes > 1


def addresses(env: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of `jax.distributed.initialize` that `env` gives; jax finds the rest by itself.

    Raises:
      UserError: only some of the addresses are given, or one cannot be.
    """
    given = {name: env.get(name, "").strip() for name in (ADDRESS, COUNT, INDEX)}
    given[INDEX] = given[INDEX] or (env.get(POD_INDEX, "").strip() if given[COUNT] else "")
    if not given[COUNT] and not given[INDEX]:
        if given[ADDRESS]:
            check_address(given[ADDRESS])
        # Under Slurm jax gives each process one GPU; a process that has its host to itself gets all of them.
        alone = env.get("SLURM_NTASKS") and env.get("SLURM_NTASKS") == env.get("SLURM_STEP_NUM_NODES")
        return {"local_device_ids": []} if alone and "JAX_LOCAL_DEVICE_IDS" not in env else {}
    if missing := [name for name, value in given.items() if not value]:
        raise UserError(
            f"{' and '.join(missing)}: not set; plain addresses need all of {ADDRESS}=host:port of process 0, {COUNT} "
            f"and {INDEX} (0 to {COUNT} - 1)"
        )
    check_address(given[ADDRESS])
    for name in (COUNT, INDEX):
        if not given[name].isdecimal():
            raise UserError(f"{name}={given[name]!r}: set it to a whole number")
    count, index = int(given[COUNT]), int(given[INDEX])
    if index >= count:
        raise UserError(
            f"{INDEX}={index}: {COUNT}={count} processes are numbered 0 to {count - 1}; set it to one of those"
        )
    method = {"cluster_detection_method": "deactivate"}
    return {"coordinator_address": given[ADDRESS], "num_processes": count, "process_id": index, **method}


def check_address(address: str) -> None:
    """Raises UserError unless it reads host:port."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(f"{ADDRESS}={address!r}: set it to host:port, the host of process 0 and a free port there")


def check_port(address: str) -> None:
    """Raises UserError where another program listens already: jax would crash."""
    port = int(address.rpartition(":")[2])
    for family, host in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):
        with contextlib.closing(socket.socket(family)) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind((host, port))
                return
            except OSError as error:
                refused = error
    raise UserError(f"{ADDRESS}={address}: port {port} of this host cannot be used ({refused.strerror}); set another")


def seconds(env: Mapping[str, str], name: str, default: int) -> int:
    """A positive whole number of seconds from the environment."""
    value = env.get(name, "").strip() or str(default)
    if not value.isdecimal() or int(value) < 1:
        raise UserError(f"{name}={value!r}: set it to a whole number of seconds, at least 1")
    return int(value)


def give_up(after: int) -> None:
    """Ends the process: the others did not come."""
    where = os.environ.get(ADDRESS) or "the first host of the job"
    print(
        f"nlm: error: the processes of the job did not come together at {where} within {after} s; see that all of them "
        f"run and reach that host and port, and set {JOIN} where they need longer to start",
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)


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
