"""Ctrl-C at the terminal: the run saves, says so, and the same command goes on."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys

from nlm_jax.convert.saved import finished

CONFIG = """
import json, ml_collections
def get_config():
    return ml_collections.ConfigDict(json.loads({text!r}))
"""


def test_ctrl_c(config, cache, tmp_path):
    cfg = dataclasses.asdict(config(every=1000, eval={"every": 0}))
    (tmp_path / "config.py").write_text(CONFIG.format(text=json.dumps(cfg)))
    root = pathlib.Path(__file__).resolve().parents[2]
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONPATH": str(root)}
    arguments = ["train", f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'run'}"]
    command = [sys.executable, "-u", "-m", "nlm_jax.cli", *arguments]
    with subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        for line in process.stdout:
            if line.startswith("stage1 1/4"):
                process.send_signal(signal.SIGINT)
                break
        rest, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "checkpoint saved; rerun the same command to resume" in rest
    assert "Traceback" not in errors
    stopped = finished(tmp_path / "run" / "checkpoints" / "stage1" / "last")[-1]
    assert 1 <= stopped < 4
    done = subprocess.run(command, env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"stage1: step {stopped} of 4" in done.stdout
    assert "finished" in done.stdout
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6, 7]
