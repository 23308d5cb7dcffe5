"""The frozen base is not in the checkpoint: its digest is, and another base is refused by name."""

import dataclasses
import shutil

import numpy as np
import pytest

from nlm_jax import NatureLM
from nlm_jax.audio.config import AudioConfig
from nlm_jax.convert.formats import open_checkpoint, save
from nlm_jax.convert.run_file import find_checkpoint, read_run
from nlm_jax.convert.saved import read_params
from nlm_jax.core.errors import UserError
from nlm_jax.core.tree import named_leaves
from nlm_jax.train.loop import train


@pytest.fixture
def own_weights(weights, tmp_path):
    return shutil.copytree(weights, tmp_path / "weights")


@pytest.fixture
def run(config, own_weights, tmp_path):
    """A finished run of the first stage alone, over weights that a test may spoil."""
    cfg = config(init={"naturelm": str(own_weights)})
    cfg = dataclasses.replace(cfg, stages=cfg.stages[:1])
    train(cfg, tmp_path / "run")
    return cfg, tmp_path / "run"


def spoil(folder, path="llama/layers/up_proj/kernel"):
    """Another base of the same shape."""
    checkpoint = open_checkpoint(folder).load()
    leaves = dict(checkpoint.leaves)
    leaves[path] = leaves[path].at[0, 0, 0].add(1.0)
    save(dataclasses.replace(checkpoint, leaves=leaves), folder, "nlm", overwrite=True)


def test_the_checkpoint_holds_what_trains(run):
    _, workdir = run
    saved = read_params(find_checkpoint(workdir, ("stage1",), "last"))
    digests = read_run(workdir).digests
    assert not set(saved) & set(digests)
    assert set(saved) | set(digests) == set(open_checkpoint(workdir).targets())
    assert {p.split("/")[0] for p in digests} == {"llama", "beats"}
    assert all(p.startswith("beats/predictor") for p in digests if p.startswith("beats"))


def test_another_base_is_refused(run, own_weights):
    cfg, workdir = run
    spoil(own_weights)
    (workdir / "checkpoints" / "stage1" / "last" / "4").rename(workdir / "checkpoints" / "stage1" / "last" / "3")
    for load in (lambda: train(cfg, workdir), lambda: open_checkpoint(workdir).load()):
        with pytest.raises(UserError, match=r"mismatched checkpoint: llama/layers/up_proj/kernel of the base differs"):
            load()


def test_a_run_loads_as_a_model(run):
    _, workdir = run
    model = NatureLM.from_pretrained(workdir, dtype="float32")
    assert model.config.audio == AudioConfig(1.0, "HQ")  # its data.seconds, and the --quality of its data
    trained = read_params(find_checkpoint(workdir, ("stage1",), "best"))
    leaves = named_leaves(model.state)
    for path in trained:
        np.testing.assert_array_equal(leaves[path], trained[path])
    assert model.tokenizer.decode(model.tokenizer.encode("tone")) == "tone"


def test_weights_of_another_run(run, config, tmp_path):
    """What that run trained comes from it, what it did not from where it had it."""
    cfg, workdir = run
    stage = dataclasses.replace(cfg.stages[0], name="second")
    init = dataclasses.replace(cfg.init, naturelm="", run=str(workdir))
    train(dataclasses.replace(cfg, stages=(stage,), init=init), tmp_path / "next")
    first, second = read_run(workdir), read_run(tmp_path / "next")
    assert first.digests == second.digests
    assert first.imports == second.imports
    assert first.model == second.model
    loaded = open_checkpoint(tmp_path / "next").load()
    assert set(loaded.leaves) == set(open_checkpoint(workdir).load().leaves)


def test_no_run_there(tmp_path):
    with pytest.raises(UserError, match="not a run directory"):
        open_checkpoint(tmp_path, "run")
