"""`nlm train` and a user's mistakes: one sentence, status 2, nothing on disk."""

import json
import pathlib

import pytest
import tiny_training as tiny

from nlm_jax.cli import main

CONFIG = """
import ml_collections
def get_config():
    return ml_collections.ConfigDict({values!r})
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return str(tiny.corpus(tmp_path_factory.mktemp("corpus")))


@pytest.fixture
def fails(tmp_path, capsys, corpus):
    """`fails(message, *arguments, **values)`: the command says `message` and makes no workdir."""

    def check(message, *arguments, data=None, stage=None, **values):
        data = {"train": (corpus,), "seconds": 1.0, "row_tokens": 160, "row_clips": 2, "row_answers": 32} | (data or {})
        values = {"stages": [{"steps": 1, "data": data} | (stage or {})]} | values
        (tmp_path / "config.py").write_text(CONFIG.format(values=values))
        workdir = tmp_path / "run"
        status = main(["train", f"--config={tmp_path / 'config.py'}", f"--workdir={workdir}", *arguments])
        errors = capsys.readouterr().err.strip()
        assert status == 2, errors
        assert message in errors
        assert "\n" not in errors
        assert "Traceback" not in errors
        assert not workdir.exists()

    return check


def test_mesh_that_does_not_divide(fails):
    fails("3 does not divide the 8 devices", mesh={"tensor": 3})
    fails("tensor=8 does not divide the 4 attention heads", mesh={"tensor": 8}, stage={"accumulate": 1})
    fails("6 rows per step do not divide over data=1 x fsdp=8", data={"rows": 6})
    fails("4 rows per step do not divide", stage={"accumulate": 2}, data={"rows": 8})


def test_unknown_fields(fails):
    fails("config.stages[0].data.row: no such field", data={"row": 3})
    fails("config.mehs: no such field; did you mean 'mesh'", mehs={})
    fails("no such field", "--config.seeed=3", seed=0)
    fails(
        "config.model.overrides.llama.lora.rnak: no such field", model={"overrides": {"llama": {"lora": {"rnak": 1}}}}
    )


def test_weights_that_are_not_there(fails, tmp_path):
    fails("no such", init={"beats": str(tmp_path / "missing.pt")})
    fails("not a run directory", init={"run": str(tmp_path)})
    fails("model preset 'huge' is unknown", model={"preset": "huge"})
    fails("train.lora: the model has no such parameters", model={"overrides": {"llama": {"lora": None}}})


def test_data_that_is_not_there(fails, tmp_path):
    fails(str(tmp_path / "nothing"), data={"train": (str(tmp_path / "nothing"),)})
    fails("data.train", data={"train": ()})
    fails("too short", data={"seconds": 0.1})


def test_config_file(capsys, tmp_path):
    assert main(["train", "--config=missing.py", f"--workdir={tmp_path / 'w'}"]) == 2
    assert "missing.py: no such file" in capsys.readouterr().err


def test_workdir_is_a_file(capsys, tmp_path):
    (tmp_path / "config.py").write_text(CONFIG.format(values={}))
    (tmp_path / "file").write_text("")
    assert main(["train", f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'file'}"]) == 2
    assert "is a file; give a directory" in capsys.readouterr().err


def test_run_json_of_another_version(capsys, tmp_path):
    (tmp_path / "config.py").write_text(CONFIG.format(values={}))
    pathlib.Path(tmp_path / "w").mkdir()
    (tmp_path / "w" / "run.json").write_text(json.dumps({"version": 99}))
    assert main(["train", f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'w'}"]) == 2
    assert "version 99" in capsys.readouterr().err
