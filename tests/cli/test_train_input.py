"""`nlm train` on bad input: the sentence, status 2, and a work directory as it was before."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from nlm_jax.convert.run_file import Run, write_run
from nlm_jax.core.config import load
from nlm_jax.models.presets import preset
from nlm_jax.train.config import train_config

CONFIG = """
import ml_collections

def get_config(data):
    stage = {"name": "stage1", "steps": 2, "data": {"train": (data,), "seconds": 2.0, "rows": 8, "row_tokens": 256}}
    return ml_collections.ConfigDict({
        "tokenizer": "embedded",
        "model": {"preset": "tiny", "compute_dtype": "float32", "overrides": {}},
        "stages": [stage],
        "mesh": {"data": 1, "fsdp": -1, "tensor": 1},
        "init": {"naturelm": "", "llama": "", "beats": "", "run": "", "llm": ""},
        "checkpoint": {"every": 1},
        "log": {"every": 1},
    })
"""


@pytest.fixture
def corpus(nlm, tmp_path):
    """A prepared corpus of eight clips."""
    noise, rows = np.random.default_rng(0).normal(0, 0.1, (8, 32000)), []
    for i, wave in enumerate(noise):
        soundfile.write(tmp_path / f"{i}.wav", wave, 16000)
        rows.append({"path": f"{i}.wav", "prompt": "What is it?", "text": f"owl {i}", "task": "species"})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert nlm("prepare", tmp_path / "rows.jsonl", "--out", tmp_path / "corpus")[0] == 0
    return tmp_path / "corpus"


@pytest.fixture
def config(tmp_path, corpus):
    """A config file with the corpus as its argument."""
    (tmp_path / "config.py").write_text(CONFIG)
    return f"{tmp_path / 'config.py'}:{corpus}"


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} if folder.is_dir() else None


@pytest.fixture
def refuses(nlm, tmp_path, config):
    """`refuses(sentence, *overrides)`: train refuses with this sentence and leaves the work directory alone."""

    def check(sentence, *arguments, config=config, workdir=tmp_path / "run"):
        before = contents(workdir)
        status, printed, err = nlm("train", f"--config={config}", f"--workdir={workdir}", *arguments)
        last = err.strip().splitlines()[-1]
        assert (status, printed) == (2, "")
        assert last.startswith("nlm train: error: ")
        assert sentence in last
        assert contents(workdir) == before

    return check


def test_no_config(nlm):
    status, _, err = nlm("train")
    assert status == 2
    assert "the following arguments are required: --config, --workdir" in err


def test_wrong_config_path(refuses):
    refuses("--config=nowhere.py: no such file", config="nowhere.py")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("--config.sed=1", "--config.sed: no such field"),
        ("--config.mesh.tensr=2", "--config.mesh.tensr: no such field; did you mean 'tensor'?"),
        ("--config.mesh.tensor=two", "--config.mesh.tensor: expected int"),
        ("--config.model.compute_dtype=float8", "config.model.compute_dtype: must be one of 'float32', 'bfloat16'"),
        ("--config.model.preset=huge", "model preset 'huge' is unknown; use one of tiny"),
        ("--config.log.every=0", "config.log.every: must be at least 1, got 0"),
        ("--config.checkpoint.every=0", "config.checkpoint.every: must be at least 1, got 0"),
        ("--workdri=x", "did you mean --workdir?"),
    ],
)
def test_config_fields(refuses, override, sentence):
    refuses(sentence, override)


def test_unknown_field_in_the_file(refuses, tmp_path, corpus):
    (tmp_path / "config.py").write_text(CONFIG.replace('"steps": 2', '"stesp": 2'))
    refuses("config.stages[0].stesp: no such field; did you mean 'steps'?", config=f"{tmp_path / 'config.py'}:{corpus}")


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({"tensor": 3}, "3 does not divide the 8 devices"),
        ({"data": 16}, "16 does not divide the 8 devices"),
        ({"fsdp": 3}, "makes 3 but there are 8 devices"),
        ({"fsdp": 0}, "sizes are positive"),
        ({"data": -1}, "one of them may be -1"),
    ],
)
def test_mesh_that_does_not_divide(refuses, sizes, sentence):
    refuses(sentence, *(f"--config.mesh.{name}={size}" for name, size in sizes.items()))


@pytest.mark.parametrize("name", ["naturelm", "llama", "beats", "run"])
def test_weights_that_are_not_there(refuses, name):
    refuses("nowhere", f"--config.init.{name}=nowhere")


def test_weights_of_a_part(refuses, golden):
    refuses("not a BEATs checkpoint", f"--config.init.beats={golden / 'llama'}")


def test_workdir_is_a_file(refuses, tmp_path):
    (tmp_path / "file").write_text("x")
    refuses("file: is a file; give a directory", workdir=tmp_path / "file")


def begun(workdir, config, model=None):
    """A run that was begun in `workdir` with `config` and has no checkpoint yet."""
    workdir.mkdir()
    cfg = train_config(load(config))
    write_run(workdir, Run(model or preset("tiny"), (), {}, ("stage1",), dataclasses.asdict(cfg)))


def test_workdir_of_another_config(refuses, tmp_path, config):
    begun(tmp_path / "run", config)
    refuses("its run was started with config.model.compute_dtype='float32'", "--config.model.compute_dtype=bfloat16")


def test_checkpoint_of_another_model(refuses, tmp_path, config):
    model = preset("tiny")
    begun(tmp_path / "run", config, dataclasses.replace(model, beats=dataclasses.replace(model.beats, width=96)))
    refuses("mismatched checkpoint: its model has beats.width=96")


def test_damaged_run(refuses, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"version": 1')
    refuses("run.json: not valid JSON")


def test_corpus_that_is_not_there(nlm, refuses, tmp_path, config):
    file, _ = config.split(":")
    refuses("nowhere: no such directory; data directories are written by nlm prepare", config=f"{file}:nowhere")


def test_stage_field(refuses):
    refuses("config.stages[0].steps: must be at least 1, got 0", "--config.stages.0.steps=0")


def test_field_the_file_leaves_out(refuses):
    refuses("config.log.evry", "--config.log.evry=1")  # unknown
    refuses("config.checkpoint.keep: must be at least 1, got 0", "--config.checkpoint.keep=0")


def test_a_bucket_of_an_unknown_kind(nlm, tmp_path, monkeypatch):
    config = Path("configs/smoke.py").absolute()
    monkeypatch.chdir(tmp_path)
    status, _, err = nlm("train", f"--config={config}", "--workdir=bucket://run")
    assert status == 2
    assert "bucket://run: bucket:// is not a supported protocol; use gs://, s3:// or a path" in err
    assert not list(tmp_path.iterdir())
