"""Two processes of four devices are one of eight: straight, killed, stopped, and handed from one to the other."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys

import jax
import pytest
import tiny_training as tiny

from nlm_jax.convert.checkpoint import Checkpoint
from nlm_jax.convert.formats import save
from nlm_jax.convert.saved import finished
from nlm_jax.data.text import Tokenizer, embedded_directory
from nlm_jax.train.config import train_config
from nlm_jax.train.loop import train
from nlm_jax.train.preemption import AHEAD

ROOT, HERE = pathlib.Path(__file__).resolve().parents[2], pathlib.Path(__file__).resolve().parent
STEPS, ROWS, EXAMPLES = 8, 8, 12
CONFIG = """
import json, ml_collections
def get_config():
    return ml_collections.ConfigDict(json.loads({text!r}))
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """One stage of a few steps that all runs take, with a checkpoint after each step."""
    folder = tmp_path_factory.mktemp("model")
    corpus = tiny.corpus(folder / "corpus", EXAMPLES)
    cfg = tiny.model_config(dropout=0.1, layers=1)
    rows = Tokenizer.from_pretrained("embedded").vocab_size
    cfg = dataclasses.replace(cfg, llama=dataclasses.replace(cfg.llama, vocab=rows))
    save(Checkpoint(cfg, dict(tiny.params(cfg)), tokenizer=embedded_directory()), folder / "tiny", "nlm")
    data = {"train": (str(corpus),), "valid": (str(corpus),), "seconds": 1.0, "rows": ROWS, "threads": 2, "prefetch": 2}
    data |= {"row_tokens": 160, "row_clips": 2, "row_answers": 32}
    optim = {"peak_lr": 1e-3, "min_lr": 1e-4, "warmup_steps": 0}
    return train_config(
        {
            "init": {"naturelm": str(folder / "tiny")},
            "stages": [{"steps": STEPS, "data": data, "optim": optim, "train": {"beats": False}}],
            "checkpoint": {"every": 1, "keep": STEPS},
            "eval": {"every": STEPS, "answers": 0},
            "log": {"every": 1, "tensorboard": False},
        }
    )


@pytest.fixture(scope="module")
def one(config, cache):
    """`one(workdir)` trains in this process, on eight devices."""
    return lambda workdir: train(config, workdir)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder of compiled programs for all runs of this file."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    folder = before["jax_compilation_cache_dir"] or str(tmp_path_factory.mktemp("compiled"))
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    yield jax.config.jax_compilation_cache_dir
    for name, value in before.items():
        jax.config.update(name, value)


def free_port() -> int:
    with contextlib.closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def two(config, cache, tmp_path_factory):
    """`two(workdir, {process: variables})` runs `nlm train` in two processes; (status, stdout, stderr) of each."""
    file = tmp_path_factory.mktemp("config") / "config.py"
    file.write_text(CONFIG.format(text=json.dumps(dataclasses.asdict(config))))

    def run(workdir, tamper):
        env = os.environ | {
            "XLA_FLAGS": "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0",
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}",
            "JAX_NUM_PROCESSES": "2",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, HERE / "tampered.py", "train", f"--config={file}", f"--workdir={workdir}"]
        command += ["--config.mesh.distributed=True"]
        started = []
        with contextlib.ExitStack() as stack:
            for i in range(2):
                own = env | {"JAX_PROCESS_ID": str(i)} | tamper.get(i, {})
                pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
                started.append(stack.enter_context(subprocess.Popen(command, env=own, **pipes)))
                stack.callback(started[-1].kill)
            outputs = [process.communicate(timeout=600) for process in started]
        return [(p.returncode, *texts) for p, texts in zip(started, outputs, strict=True)]

    return run


def checkpoints(workdir) -> pathlib.Path:
    return workdir / "checkpoints" / "stage1" / "last"


def position(workdir, step: int) -> int:
    return json.loads((checkpoints(workdir) / str(step) / "meta" / "metadata").read_text())["position"]


def up_to(step: int, source, target):
    """A run as it was when `step` was its newest checkpoint."""
    shutil.copytree(source, target)
    for later in [s for s in finished(checkpoints(target)) if s > step]:
        shutil.rmtree(checkpoints(target) / str(later))
    shutil.rmtree(target / "checkpoints" / "stage1" / "best")
    return target


def same_run(ours, theirs):
    """The same losses within 1e-5 at every step, and the same place in the data."""
    lines = [[json.loads(line) for line in (w / "metrics.jsonl").read_text().splitlines()] for w in (ours, theirs)]
    for a, b in zip(*lines, strict=True):
        assert (a["step"], a["kind"]) == (b["step"], b["kind"])
        assert abs(a["loss"] - b["loss"]) <= 1e-5, a["step"]
    assert [r["step"] for r in lines[0] if r["kind"] == "train"] == list(range(1, STEPS + 1))
    assert position(ours, STEPS) == position(theirs, STEPS) == STEPS


@pytest.fixture(scope="module")
def straight(one, tmp_path_factory):
    """The run of one process that nothing happened to."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    assert one(workdir) == 0
    return workdir


@pytest.fixture(scope="module")
def together(two, tmp_path_factory):
    """A run of two processes that nothing happened to: its directory, what each said, and what each decoded."""
    folder = tmp_path_factory.mktemp("together")
    files = [folder / f"decoded{i}.json" for i in range(2)]
    logs = two(folder / "run", {i: {"TAMPER_DECODED": str(file)} for i, file in enumerate(files)})
    assert [status for status, *_ in logs] == [0, 0], logs
    return folder / "run", logs, [json.loads(file.read_text()) for file in files]


def test_two_are_one(straight, together):
    same_run(together[0], straight)


def test_only_the_first_speaks(together):
    (_, first, _), (_, second, errors) = together[1]
    assert "finished; the model is in" in first
    assert [line for line in second.splitlines() if not line.startswith("[Gloo]")] == []
    assert "Traceback" not in errors


def test_each_decodes_its_own_rows_alone(together):
    seen = []
    for process, decoded in enumerate(together[2]):
        assert {kind for kind, _ in decoded} == {"row", "example"}
        assert all(number % ROWS // (ROWS // 2) == process for _, number in decoded)
        seen.append({(kind, number) for kind, number in decoded})
    both = seen[0] | seen[1]
    assert both >= {("row", r) for r in range(STEPS * ROWS)} | {("example", e) for e in range(EXAMPLES)}
    # One clip an example: nothing was read twice.
    assert sum(kind == "example" for decoded in together[2] for kind, _ in decoded) == EXAMPLES


@pytest.fixture(scope="module")
def killed(straight, two, tmp_path_factory):
    """One process's first step goes on in two, which are killed in the third: (directory, what they said)."""
    workdir = up_to(1, straight, tmp_path_factory.mktemp("killed") / "run")
    return workdir, two(workdir, {i: {"TAMPER_SIGNAL": f"{signal.SIGKILL:d}@3"} for i in range(2)})


@pytest.fixture(scope="module")
def stopped(killed, two):
    """The killed ones go on, and the second is sent SIGTERM in its first step: (directory, where it began, ...).

    Their newest checkpoint is damaged if there is one before it: both go on from that one then.
    """
    steps = finished(checkpoints(killed[0]))
    began = steps[-2] if len(steps) > 1 else steps[-1]
    if began != steps[-1]:
        (checkpoints(killed[0]) / str(steps[-1]) / "opt" / "_METADATA").write_bytes(b"")
    return killed[0], began, two(killed[0], {1: {"TAMPER_SIGNAL": f"{signal.SIGTERM:d}@1"}})


def test_a_run_of_one_process_resumes_in_two_that_are_killed(killed):
    workdir, logs = killed
    assert all(status < 0 or status == 1 for status, *_ in logs)  # the slower one may find the other gone
    assert any(status == -signal.SIGKILL for status, *_ in logs)
    assert all("start the job again" in errors for *_, errors in logs)
    assert "stage1: step 1 of 8" in logs[0][1]
    assert 1 <= finished(checkpoints(workdir))[-1] <= 4


def test_a_signal_to_one_stops_both_at_one_step(stopped):
    workdir, began, logs = stopped
    assert [status for status, *_ in logs] == [0, 0], logs
    last = finished(checkpoints(workdir))[-1]
    assert f"stage1: step {began} of 8" in logs[0][1]
    assert f"stopped at step {last} of stage1, checkpoint saved" in logs[0][1]
    assert last == began + 1 + AHEAD


def test_two_go_on_in_one(stopped, straight, one):
    """After all that happened to it, the run is the one that nothing happened to."""
    assert one(stopped[0]) == 0
    same_run(stopped[0], straight)
