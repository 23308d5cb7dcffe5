"""launch/*.sh with a stand-in for Python that writes down what it is asked to do: what is installed, and what runs."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
STAND_IN = """#!/bin/bash
last="${@: -1}"
case "$*" in
  "-m venv --clear "*)
    echo "make environment" >> "$LOG"
    mkdir -p "$last/bin" && rm -f "$last"/.nlm-* && cp "$0" "$last/bin/python" ;;
  "-m pip install"*) echo "install $last" >> "$LOG"; exit "${PIP_STATUS:-0}" ;;
  "-m pytest"*|"-m nlm_jax.cli"*)
    shift
    echo "run $*" >> "$LOG"; pwd >> "$LOG.pwd"; echo "$XLA_FLAGS" >> "$LOG.flags" ;;
  "-m pip --version") ;;
  *) exec "$REAL" "$@" ;;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")


@pytest.fixture
def machine(tmp_path):
    """`machine("launch/test.sh", ...)` runs it where the path has a space; returns (status, log lines, stderr)."""
    repository, path, log = tmp_path / "my clone", tmp_path / "bin", tmp_path / "log"
    shutil.copytree(ROOT / "launch", repository / "launch")
    for name in ("setup.py", "pyproject.toml"):
        shutil.copyfile(ROOT / name, repository / name)
    path.mkdir()
    (path / "python3").write_text(STAND_IN)
    (path / "python3").chmod(0o755)

    def run(script, *arguments, **environment):
        log.write_text("")
        env = {
            "PATH": f"{path}:/usr/bin:/bin",
            "LOG": str(log),
            "REAL": sys.executable,
            "HOME": str(tmp_path),
            **environment,
        }
        done = subprocess.run(
            ["bash", repository / script, *arguments],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, log.read_text().splitlines(), done.stderr

    run.repository, run.log, run.path = repository, log, path
    return run


WHOLE_SUITE = f"run pytest -n {min(4, os.cpu_count() or 1)} --dist loadfile --no-loadscope-reorder"


def test_first_run_installs_and_the_second_does_not(machine):
    assert machine("launch/test.sh")[:2] == (0, ["make environment", "install .[test]", WHOLE_SUITE])
    assert machine("launch/test.sh")[:2] == (0, [WHOLE_SUITE])


def test_arguments_pass_through(machine):
    machine("launch/test.sh")
    assert machine("launch/test.sh", "tests/unit", "-k", "a b")[1] == ["run pytest tests/unit -k a b"]
    assert machine("launch/demo.sh", "--out", "x")[1] == ["run nlm_jax.cli demo --out x"]


def test_demo_needs_the_plain_installation_alone(machine):
    assert machine("launch/demo.sh")[1] == ["make environment", "install .", "run nlm_jax.cli demo"]
    assert machine("launch/demo.sh")[1] == ["run nlm_jax.cli demo"]
    assert machine("launch/test.sh")[1] == ["install .[test]", WHOLE_SUITE]
    assert machine("launch/demo.sh")[1] == ["run nlm_jax.cli demo"]


COMMANDS = [
    "run nlm_jax.cli prepare {folder} --out=w/data --hold-out=0.2",
    "run nlm_jax.cli train --config={root}/configs/finetune.py:w/data{model} --workdir=w/run "
    "--config.model.compute_dtype=float32{more}",
    "run nlm_jax.cli evaluate --benchmark=corpus --model=w/run --data=w/data --out=w/scores --dtype=float32",
]


def test_fine_tuning_is_three_commands(machine, tmp_path):
    """Two of them at the second start too: each goes on by itself."""
    folder = tmp_path / "my birds"
    folder.mkdir()
    commands = [c.format(folder=folder, root=machine.repository, model="", more="") for c in COMMANDS]
    cpu = {"JAX_PLATFORMS": "cpu"}
    assert machine("launch/finetune.sh", folder, "--out=w", **cpu)[1] == ["make environment", "install .", *commands]
    more = " --config.init.llm=l --config.seed=1"
    commands = [c.format(folder=folder, root=machine.repository, model=",m", more=more)
            for c in COMMANDS]  # fmt: skip
    flags = ("--out", "w", "--from=m", "--llm=l", "--", "--config.seed=1")
    assert machine("launch/finetune.sh", folder, *flags, **cpu)[1] == commands


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "FOLDER is missing"),
        (["nowhere"], "nowhere: no such file or folder"),
        ([".", "--from"], "--from needs a value"),
        ([".", "--fro=x"], "unknown flag --fro=x"),
        ([".", "--llm=x"], "--llm needs --from"),
        ([".", "--from=a,b"], "a path without commas"),
        ([".", ".."], "one FOLDER only"),
    ],
)
def test_fine_tuning_says_what_is_wrong(machine, arguments, says):
    status, lines, err = machine("launch/finetune.sh", *arguments)
    assert (status, lines) == (2, [])
    assert says in err


def test_a_changed_setup_installs_again(machine):
    machine("launch/test.sh")
    with open(machine.repository / "setup.py", "a") as file:
        file.write("# another dependency\n")
    assert machine("launch/demo.sh")[1] == ["install .", "run nlm_jax.cli demo"]
    assert machine("launch/test.sh")[1] == ["install .[test]", WHOLE_SUITE]
    assert machine("launch/test.sh")[1] == [WHOLE_SUITE]


def test_a_failed_installation_is_repeated(machine):
    status, lines, err = machine("launch/test.sh", PIP_STATUS="1")
    assert status == 2
    assert lines == ["make environment", "install .[test]"]
    assert "pip could not install nlm_jax[test]" in err
    assert machine("launch/test.sh")[1] == ["install .[test]", WHOLE_SUITE]


def test_where_and_how_they_run(machine):
    machine("launch/test.sh")
    machine("launch/demo.sh")
    machine("launch/demo.sh", XLA_FLAGS="--xla_dump_to=d")
    machine("launch/demo.sh", XLA_FLAGS="--xla_force_host_platform_device_count=2")
    assert pathlib.Path(f"{machine.log}.pwd").read_text().splitlines()[0] == str(machine.repository)
    flags = pathlib.Path(f"{machine.log}.flags").read_text().splitlines()[1:]
    eight = "--xla_force_host_platform_device_count=8"
    assert flags == [eight, f"--xla_dump_to=d {eight}", "--xla_force_host_platform_device_count=2"]


def test_a_python_that_is_too_old(machine):
    (machine.path / "python3").write_text("#!/bin/sh\nexit 1\n")
    for name in ("python", "python3.11", "python3.12", "python3.13"):
        shutil.copy(machine.path / "python3", machine.path / name)
    status, lines, err = machine("launch/test.sh")
    assert (status, lines) == (2, [])
    assert "there is no Python 3.11 or newer" in err
    status, _, err = machine("launch/test.sh", PYTHON="python2")
    assert status == 2
    assert "PYTHON=python2 does not run or is older than 3.11" in err


@pytest.mark.skipif(not os.access(ROOT / ".ci" / "run", os.X_OK), reason="not a checkout")
def test_ci_ends_with_the_closing_line(machine):
    shutil.copytree(ROOT / ".ci", machine.repository / ".ci")
    (machine.repository / "launch" / "test.sh").write_text("echo '2 failed, 7 passed in 1.00s'; echo later; exit 1\n")
    done = subprocess.run([machine.repository / ".ci" / "run"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "2 failed, 7 passed in 1.00s"
