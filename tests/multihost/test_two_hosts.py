"""launch/two_hosts.sh: two network namespaces, and one of them dies."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "launch" / "two_hosts.sh"


def no_namespaces() -> str:
    """Why the script cannot work here; empty where it can."""
    if not shutil.which("ip"):
        return "no command ip (iproute2)"
    if os.geteuid():
        return "not root"
    name = f"nlmtest{os.getpid()}"
    process = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return process.stderr.strip() if process.returncode else ""


@pytest.mark.slow
@pytest.mark.parametrize("dead", ["0", "1"])
def test_one_of_two_hosts_dies(dead):
    if reason := no_namespaces():
        pytest.skip(f"ip netns add does not work here: {reason}")
    env = os.environ | {"NLM_PYTHON": sys.executable, "KILL": dead}
    done = subprocess.run(["bash", SCRIPT], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("PASS\n")
    assert "start the job again" in done.stdout


def test_a_wrong_host():
    env = os.environ | {"KILL": "2"}
    done = subprocess.run(["bash", SCRIPT], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
