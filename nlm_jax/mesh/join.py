"""Joining the processes of one job: addresses from the environment, checked, and a bounded wait."""

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any

import jax

from nlm_jax.core.errors import UserError
from nlm_jax.mesh.hosts import is_multiprocess, start_watcher

ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
JOIN, HEARTBEAT = "NLM_JOIN_SECONDS", "NLM_HEARTBEAT_SECONDS"
POD_INDEX = "JOB_COMPLETION_INDEX"
"""Variable in which Kubernetes gives the index of a pod of an indexed Job or JobSet."""


def initialize_distributed() -> None:
    """Joins the other processes of the job; call it before any device is used.

    Addresses come from `JAX_COORDINATOR_ADDRESS` (host:port of process 0), `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`
    (default: the pod index of a Kubernetes JobSet), or from the variables of TPU pods, GKE, Slurm and Open MPI.
    `NLM_JOIN_SECONDS` (300) is the time limit for all processes to join. A process without a heartbeat for
    `NLM_HEARTBEAT_SECONDS` (60) counts as lost, and the others exit.

    Raises:
      UserError: the environment has no addresses of the other processes, or invalid ones.
    """
    join, heartbeat = seconds(os.environ, JOIN, 300), seconds(os.environ, HEARTBEAT, 60)
    arguments = addresses(os.environ)
    if arguments.get("process_id") == 0:
        check_port(arguments["coordinator_address"])
    # Its signal handler would replace the one of train/preemption.py.
    jax.config.update("jax_enable_preemption_service", False)
    # The runtime would abort with a C++ trace; this timer fires earlier and prints what to do.
    timer = threading.Timer(join, abort_join, (join,))
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(
            **arguments,
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
        timer.cancel()
    if is_multiprocess():
        start_watcher()


def addresses(env: Mapping[str, str]) -> dict[str, Any]:
    """Arguments for `jax.distributed.initialize` from `env`; jax detects the others itself.

    Raises:
      UserError: only some of the variables are set, or one is invalid.
    """
    variables = {name: env.get(name, "").strip() for name in (ADDRESS, COUNT, INDEX)}
    variables[INDEX] = variables[INDEX] or (env.get(POD_INDEX, "").strip() if variables[COUNT] else "")
    if not variables[COUNT] and not variables[INDEX]:
        if variables[ADDRESS]:
            check_address(variables[ADDRESS])
        # Under Slurm jax gives each process one GPU; the only process of a host should get all of them.
        alone = env.get("SLURM_NTASKS") and env.get("SLURM_NTASKS") == env.get("SLURM_STEP_NUM_NODES")
        return {"local_device_ids": []} if alone and "JAX_LOCAL_DEVICE_IDS" not in env else {}
    if missing := [name for name, value in variables.items() if not value]:
        raise UserError(
            f"{' and '.join(missing)}: not set; plain addresses need all of {ADDRESS}=host:port of process 0, {COUNT} "
            f"and {INDEX} (0 to {COUNT} - 1)"
        )
    check_address(variables[ADDRESS])
    for name in (COUNT, INDEX):
        if not variables[name].isdecimal():
            raise UserError(f"{name}={variables[name]!r}: set it to a whole number")
    count, index = int(variables[COUNT]), int(variables[INDEX])
    if index >= count:
        raise UserError(
            f"{INDEX}={index}: {COUNT}={count} processes are numbered 0 to {count - 1}; set it to one of those"
        )
    method = {"cluster_detection_method": "deactivate"}
    return {"coordinator_address": variables[ADDRESS], "num_processes": count, "process_id": index, **method}


def check_address(address: str) -> None:
    """Raises UserError unless `address` has the form host:port."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(f"{ADDRESS}={address!r}: set it to host:port, the host of process 0 and a free port there")


def check_port(address: str) -> None:
    """Raises UserError if another program listens on the port already: jax would crash."""
    port = int(address.rpartition(":")[2])
    for family, host in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):
        with contextlib.closing(socket.socket(family)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                return
            except OSError as error:
                reason = error.strerror
    raise UserError(f"{ADDRESS}={address}: port {port} of this host cannot be used ({reason}); set another")


def seconds(env: Mapping[str, str], name: str, default: int) -> int:
    """A positive whole number of seconds from the environment."""
    value = env.get(name, "").strip() or str(default)
    if not value.isdecimal() or int(value) < 1:
        raise UserError(f"{name}={value!r}: set it to a whole number of seconds, at least 1")
    return int(value)


def abort_join(after: int) -> None:
    """Exits with an explanation: the other processes did not join within `after` seconds."""
    address = os.environ.get(ADDRESS) or "the first host of the job"
    print(
        f"nlm: error: the processes of the job did not come together at {address} within {after} s; check that all of "
        f"them run and reach that host and port, or set {JOIN} if they need longer to start",
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)
