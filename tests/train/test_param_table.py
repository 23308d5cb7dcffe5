"""The parameter table names what trains, what decays, where it lies, and adds up."""

import tiny_training as tiny

from nlm_jax.mesh.build import make_mesh
from nlm_jax.mesh.rules import rules
from nlm_jax.train import param_table
from nlm_jax.train.config import Stage, TrainConfig
from nlm_jax.train.program import make_program


def test_table():
    stage = Stage()
    program = make_program(TrainConfig(stages=(stage,)), stage, tiny.model_config(), make_mesh(1, 4, 2), rules())
    rows = {row["path"]: row for row in param_table.rows(program)}
    assert set(rows) == set(program.params())
    kernel = rows["llama/layers/q_proj/kernel"]
    assert (kernel["shape"], kernel["dtype"], kernel["trains"]) == ("2x64x64", "bfloat16", "")
    assert (kernel["axes"], kernel["spec"]) == ("layers embed heads", "(None, 'fsdp', 'tensor')")
    assert kernel["bytes/device"] == str(2 * 16 * 32 * 2)
    assert rows["beats/layers/fc1/kernel"]["trains"] == "decayed"
    assert rows["beats/relative_bias/embedding"]["trains"] == "yes"
    assert rows["beats/predictor/kernel"]["trains"] == ""
    text = param_table.text(program)
    assert len(text.splitlines()) == len(rows) + 1
    assert "of weights on each device" in param_table.table(program).caption
