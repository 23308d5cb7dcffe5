"""Every shipped config builds; what may change when a run goes on; the sentences for mistakes."""

import dataclasses
import math
import pathlib

import pytest

from nlm_jax.core import config as core
from nlm_jax.core.errors import UserError
from nlm_jax.train.config import Stage, TrainConfig, config_dict, first_difference, train_config

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.parametrize("name", ["stage1", "stage2", "both", "smoke"])
def test_shipped_configs_build(name):
    made = train_config(core.load(CONFIGS / f"{name}.py"))
    assert [s.name for s in made.stages] == (["stage1", "stage2"] if name in ("both", "smoke") else [name])
    assert "command" in (CONFIGS / f"{name}.py").read_text()
    assert made.stages[0].train.base == (name == "smoke")


def test_the_reference_recipe():
    stage1, stage2 = train_config(core.load(CONFIGS / "both.py")).stages
    assert (stage1.steps, stage2.steps) == (500_000, 2_000_000)
    for stage in (stage1, stage2):
        optim = stage.optim
        assert (optim.peak_lr, optim.min_lr, optim.warmup_steps, optim.steps_per_epoch) == (9e-5, 1e-5, 5000, 10_000)
        assert (optim.beta1, optim.beta2, optim.weight_decay) == (0.9, 0.999, 0.05)
        assert (optim.max_grad_norm, optim.max_grad_value) == (2.0, 1.0)


def test_overrides_reach_every_field():
    overrides = [
        "--config.stages.1.optim.peak_lr=1e-3",
        "--config.stages.0.data.train=('a','b')",
        "--config.mesh.tensor=4",
    ]
    made = train_config(core.load(CONFIGS / "both.py", overrides))
    assert made.stages[1].optim.peak_lr == 1e-3
    assert made.stages[0].data.train == ("a", "b")
    assert made.mesh.tensor == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.stages.0.optim.peak_rl=1", "peak_rl: no such field; did you mean 'peak_lr'"),
        ("--config.stages.7.steps=1", "'7' is not an index of a list of 1"),
        ("--config.mesh.tensro=1", "did you mean 'tensor'"),
        ("--config.stages.0.steps=many", "expected int"),
    ],
)
def test_unknown_fields(override, message):
    with pytest.raises(UserError, match=message):
        core.load(CONFIGS / "stage1.py", [override])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stages": []}, "one or more stages"),
        ({"stages": [{"name": "a"}, {"name": "a"}]}, "different names"),
        ({"stages": [{"name": "a/b"}]}, "names a folder"),
        ({"stages": [{"steps": 0}]}, r"stages\[0\]\.steps: must be at least 1"),
        ({"stages": [{"accumulate": 3}]}, r"accumulate: 3 does not divide data\.rows=8"),
        ({"checkpoint": {"every": 0}}, r"checkpoint\.every: must be at least 1"),
        ({"stages": [{"train": {"lore": True}}]}, "did you mean 'lora'"),
        ({"stages": [{"optim": {"peak_lr": -1.0}}]}, r"optim\.peak_lr=-1\.0: must not be negative"),
        ({"stages": [{"optim": {"peak_lr": math.nan}}]}, r"optim\.peak_lr=nan"),
        ({"stages": [{"optim": {"warmup_steps": -1}}]}, r"optim\.warmup_steps=-1"),
        ({"stages": [{"optim": {"max_grad_norm": 0.0}}]}, r"optim\.max_grad_norm=0\.0: must be above 0"),
        ({"stages": [{"optim": {"beta1": 1.0}}]}, r"optim\.beta1=1\.0: must lie in"),
        ({"eval": {"answers": -1}}, r"eval\.answers: must be at least 0"),
        ({"eval": {"max_new_tokens": 0}}, r"eval\.max_new_tokens: must be at least 1"),
    ],
)
def test_impossible_values(values, message):
    with pytest.raises(UserError, match=message):
        train_config(values)


def test_what_may_change():
    made = TrainConfig()
    old = dataclasses.asdict(made)
    stage = dataclasses.replace(made.stages[0], accumulate=2, data=dataclasses.replace(made.stages[0].data, workers=3))
    mesh = dataclasses.replace(made.mesh, fsdp=2)
    assert first_difference(old, dataclasses.asdict(dataclasses.replace(made, stages=(stage,), mesh=mesh))) is None
    other = dataclasses.replace(made, stages=(Stage(), Stage(name="stage2")))
    assert first_difference(old, dataclasses.asdict(other))[0].startswith("stages.1.")
    assert first_difference(old, dataclasses.asdict(dataclasses.replace(made, seed=1))) == ("seed", 0, 1)


def test_config_dict_is_the_config():
    assert train_config(config_dict(TrainConfig())) == TrainConfig()
