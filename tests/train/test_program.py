"""Programs of equal settings share their compiled functions."""

import dataclasses

import jax
import tiny_training as tiny

from nlm_jax.data.config import DataConfig
from nlm_jax.mesh.build import make_mesh
from nlm_jax.mesh.rules import rules
from nlm_jax.train.config import Stage, TrainConfig
from nlm_jax.train.program import make_program


def program(seed=0, **changes):
    stage = dataclasses.replace(Stage(steps=4, data=DataConfig(rows=8)), **changes)
    mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1])
    return make_program(TrainConfig(stages=(stage,), seed=seed), stage, tiny.model_config(), mesh, rules())


def test_only_settings_of_the_computation_make_another_program():
    first = program()
    renamed = program(name="renamed", data=DataConfig(train=("other",), rows=8))
    assert (renamed.step, renamed.init_opt, renamed.build) == (first.step, first.init_opt, first.build)
    assert (first.stage.name, renamed.stage.name) == ("stage1", "renamed")
    for other in (program(steps=5), program(seed=1), program(accumulate=2)):
        assert other.step is not first.step
