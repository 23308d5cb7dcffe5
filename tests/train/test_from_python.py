"""Training without a config file: the examples of docs/training.md as they are printed, and what `train` refuses."""

import dataclasses
import pathlib
import re
import shutil

import pytest
import tiny_training as tiny

from nlm_jax.core.errors import UserError
from nlm_jax.train import Stage, TrainConfig, train, train_config
from nlm_jax.train.config import config_dict

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_examples_of_the_document(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    training, batches = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    shutil.copytree(tiny.corpus(tmp_path / "corpus"), tmp_path / "data" / "own")
    monkeypatch.chdir(tmp_path)
    names, started = {}, []
    # Runs are those of tests/resume; compiling one more would take a minute.
    monkeypatch.setattr(
        "nlm_jax.train.loop.run", lambda config, workdir, console: started.append((config, workdir)) or 0
    )
    exec(training, names)
    assert started == [(names["config"], tmp_path / "runs" / "own")]
    assert config_dict(names["config"]) == config_dict(train_config(config_dict(names["config"])))
    exec(batches, names)
    assert names["batch"].tokens.shape == (8, 160)
    assert names["batch"].audio.shape == (8, 2, 16_000)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TrainConfig(stages=()), "need one or more stages"),
        (TrainConfig(stages=(Stage(), Stage())), "with different names"),
        (TrainConfig(stages=(Stage(steps=0),)), r"stages\[0\].steps: must be at least 1"),
        (dataclasses.replace(TrainConfig(), log=dataclasses.replace(TrainConfig().log, every=0)), "log.every"),
    ],
)
def test_every_config_is_checked(tmp_path, config, message):
    with pytest.raises(UserError, match=message):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
