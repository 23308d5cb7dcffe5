"""How processes find each other: what the environment must say, and one sentence where it does not."""

import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from nlm_jax.core.errors import UserError
from nlm_jax.mesh.build import check_processes
from nlm_jax.mesh.join import addresses, check_port, seconds

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLAIN = {"JAX_COORDINATOR_ADDRESS": "10.0.0.1:8476", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
DETECTED = {
    "coordinator_address": "10.0.0.1:8476",
    "num_processes": 4,
    "process_id": 3,
    "cluster_detection_method": "deactivate",
}


def test_plain_addresses():
    assert addresses(PLAIN) == DETECTED


def test_the_pod_of_a_job_set_knows_its_number():
    assert (
        addresses({k: v for k, v in PLAIN.items() if k != "JAX_PROCESS_ID"} | {"JOB_COMPLETION_INDEX": "3"}) == DETECTED
    )


def test_a_cluster_is_left_to_jax():
    assert addresses({}) == addresses({"JOB_COMPLETION_INDEX": "3"}) == {}


def test_a_slurm_task_with_a_host_of_its_own_has_all_its_gpus():
    slurm = {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_NODES": "4"}
    assert addresses(slurm) == {"local_device_ids": []}
    assert addresses(slurm | {"SLURM_NTASKS": "8"}) == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"JAX_COORDINATOR_ADDRESS": ""}, "JAX_COORDINATOR_ADDRESS: not set; plain addresses need all of"),
        ({"JAX_PROCESS_ID": ""}, "JAX_PROCESS_ID: not set"),
        (
            {"JAX_COORDINATOR_ADDRESS": "", "JAX_NUM_PROCESSES": ""},
            "JAX_COORDINATOR_ADDRESS and JAX_NUM_PROC",
        ),
        ({"JAX_COORDINATOR_ADDRESS": "10.0.0.1"}, "JAX_COORDINATOR_ADDRESS='10.0.0.1': set it to host:port"),
        ({"JAX_COORDINATOR_ADDRESS": "host:99999"}, "set it to host:port"),
        ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES='two': set it to a whole number"),
        ({"JAX_PROCESS_ID": "-1"}, "JAX_PROCESS_ID='-1': set it to a whole number"),
        ({"JAX_PROCESS_ID": "4"}, "JAX_PROCESS_ID=4: JAX_NUM_PROCESSES=4 processes are numbered 0 to 3"),
    ],
)
def test_bad_addresses(changes, message):
    with pytest.raises(UserError, match=message):
        addresses(PLAIN | changes)


def test_a_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} of this host cannot be used"):
            check_port(f"127.0.0.1:{port}")


def test_seconds():
    assert seconds({}, "NLM_JOIN_SECONDS", 300) == 300
    assert seconds({"NLM_JOIN_SECONDS": "7"}, "NLM_JOIN_SECONDS", 300) == 7
    with pytest.raises(UserError, match="NLM_JOIN_SECONDS='soon': set it to a whole number of seconds"):
        seconds({"NLM_JOIN_SECONDS": "soon"}, "NLM_JOIN_SECONDS", 300)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "the other processes were not found"),
        (PLAIN | {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1", "NLM_JOIN_SECONDS": "2"}, "did not come together at 127.0"),
    ],
)
def test_no_server(variables, message, tmp_path):
    """The command ends with one sentence, where jax alone would abort with a trace."""
    (tmp_path / "config.py").write_text("def get_config():\n    return {'mesh': {'distributed': True}}\n")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_C", "SLURM", "OMPI", "KUBERNETES"))}
    env |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"} | variables
    arguments = ["train", f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'run'}"]
    command = [sys.executable, "-m", "nlm_jax.cli", *arguments]
    done = subprocess.run(command, env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_tensor_axis_across_processes():
    class Device:
        def __init__(self, process_index):
            self.process_index = process_index

    class Two:  # processes of four devices; jax makes no mesh of devices that are not there
        def __init__(self, data, fsdp, tensor):
            self.shape = {"data": data, "fsdp": fsdp, "tensor": tensor}
            self.devices = np.array([Device(i // 4) for i in range(8)], object).reshape(data, fsdp, tensor)

    check = getattr(check_processes, "__wrapped__", check_processes)
    check(Two(1, 2, 4))
    with pytest.raises(UserError, match=r"tensor=8: leaves data x fsdp = 1 for 2 processes"):
        check(Two(1, 1, 8))
