"""Every shipped config builds; what may change when a run resumes; the messages about mistakes."""

import dataclasses
import math
import pathlib

import pytest

from nlm_jax.core import config as core
from nlm_jax.core.errors import UserError
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.train.config import (
    ModelSetup,
    Stage,
    TrainConfig,
    config_dict,
    first_difference,
    free_fields,
    free_model_fields,
    model_fields,
    train_config,
)
from nlm_jax.train.weights import resolve_model

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.parametrize("name", ["stage1", "stage2", "both", "smoke"])
def test_shipped_configs_build(name):
    config = train_config(core.load(CONFIGS / f"{name}.py"))
    assert [s.name for s in config.stages] == (["stage1", "stage2"] if name in ("both", "smoke") else [name])
    assert "command" in (CONFIGS / f"{name}.py").read_text()
    assert config.stages[0].train.base == (name == "smoke")


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
    config = train_config(core.load(CONFIGS / "both.py", overrides))
    assert config.stages[1].optim.peak_lr == 1e-3
    assert config.stages[0].data.train == ("a", "b")
    assert config.mesh.tensor == 4


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
def test_invalid_values(values, message):
    with pytest.raises(UserError, match=message):
        train_config(values)


def test_what_may_change_on_resume():
    """As docs/training.md lists it. A field is added by its metadata alone."""
    whole = {"mesh", "checkpoint", "eval", "log", "compile_cache"}
    stage = {"accumulate", "data.workers", "data.threads", "data.prefetch", "data.cache_gb"}
    names = whole | {"model.remat", "model.attention"} | {f"stages.*.{name}" for name in stage}
    assert set(free_fields(TrainConfig)) == names
    assert set(free_model_fields()) == {"remat", "attention"}


def test_first_difference():
    config = TrainConfig()
    old, stage = dataclasses.asdict(config), config.stages[0]
    data = dataclasses.replace(stage.data, workers=3)
    free = dataclasses.replace(
        config,
        stages=(dataclasses.replace(stage, accumulate=2, data=data),),
        mesh=dataclasses.replace(config.mesh, fsdp=2),
        model=ModelSetup(remat="full", attention="xla"),
    )
    assert first_difference(old, dataclasses.asdict(free)) is None
    more = dataclasses.replace(config, stages=(Stage(), Stage(name="stage2")))
    assert first_difference(old, dataclasses.asdict(more))[0].startswith("stages.1.")
    assert first_difference(old, dataclasses.asdict(dataclasses.replace(config, seed=1))) == ("seed", 0, 1)


MODEL = {"compute_dtype": "bfloat16", "remat": "full", "attention": "xla", "max_txt_len": 99}
"""Each field that `ModelSetup` and `NatureLMConfig` share, with another value than its default."""


def test_every_setting_of_the_model_takes_effect():
    shared = {f.name for f in dataclasses.fields(ModelSetup)} & {f.name for f in dataclasses.fields(NatureLMConfig)}
    assert set(MODEL) == shared == set(model_fields())
    default = ModelSetup()
    for name, value in MODEL.items():
        assert value != getattr(default, name)
        model = resolve_model(TrainConfig(model=dataclasses.replace(default, **{name: value})), [], 512)
        assert getattr(model, name) == value
        assert all(getattr(model, other) == getattr(default, other) for other in shared - {name})


def test_config_dict_is_the_config():
    assert train_config(config_dict(TrainConfig())) == TrainConfig()
