"""The parameter table: what trains, what decays, where it is stored, and the sums."""

import math

import pytest
import tiny_training as tiny

from nlm_jax.core.logging import human
from nlm_jax.mesh.build import make_mesh
from nlm_jax.mesh.rules import rules
from nlm_jax.train import param_table
from nlm_jax.train.config import Stage, TrainConfig
from nlm_jax.train.program import make_program

BYTES = {"float32": 4, "bfloat16": 2}


@pytest.fixture(scope="module")
def program():
    stage = Stage()
    return make_program(TrainConfig(stages=(stage,)), stage, tiny.model_config(), make_mesh(1, 4, 2), rules())


def is_frozen(path: str) -> bool:
    """By the paper: the language model without its adapter does not train, nor does BEATs' classifier."""
    return (path.startswith("llama/") and "/lora_" not in path) or path.startswith("beats/predictor/")


def test_rows(program):
    params = tiny.params(tiny.model_config())
    rows = {row["path"]: row for row in param_table.rows(program)}
    assert list(rows) == sorted(params)
    for path, row in rows.items():
        assert row["shape"] == "x".join(map(str, params[path].shape)), path
        assert row["dtype"] == ("bfloat16" if path.startswith("llama/") and is_frozen(path) else "float32"), path
        assert bool(row["trains"]) != is_frozen(path), path
        parts = math.prod({"fsdp": 4, "tensor": 2}[axis] for axis in ("fsdp", "tensor") if repr(axis) in row["spec"])
        assert int(row["bytes/device"]) == params[path].size * BYTES[row["dtype"]] // parts, path
    kernel = rows["llama/layers/q_proj/kernel"]
    assert (kernel["axes"], kernel["spec"]) == ("layers embed heads", "(None, 'fsdp', 'tensor')")
    assert rows["beats/layers/fc1/kernel"]["trains"] == "decayed"
    assert rows["beats/relative_bias/embedding"]["trains"] == "yes"


def test_sums(program):
    params, rows = tiny.params(tiny.model_config()), param_table.rows(program)
    frozen = sum(leaf.size for path, leaf in params.items() if is_frozen(path))
    trained = sum(leaf.size for leaf in params.values()) - frozen
    stored = sum(int(row["bytes/device"]) for row in rows)
    assert param_table.table(program).caption == (
        f"{human(trained)} train, {human(frozen)} frozen; {human(stored)}B of weights on each device"
    )


def test_text(program):
    header, *lines = param_table.text(program).splitlines()
    rows = param_table.rows(program)
    assert header.split() == list(rows[0])
    assert [line.split()[0] for line in lines] == [row["path"] for row in rows]
    starts = [header.index(column) for column in rows[0]]
    assert all(line[start - 1] == " " for line in lines for start in starts[1:] if len(line) > start)
