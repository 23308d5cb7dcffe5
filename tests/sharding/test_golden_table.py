"""Sharding of every parameter, per preset: a change shows in the diff of shardings.json.

`NLM_WRITE_GOLDEN=1 pytest tests/sharding/test_golden_table.py` writes the file again.
"""

import json
import os
import pathlib

import jax
import pytest
from flax import nnx

from nlm_jax.core.tree import named_leaves
from nlm_jax.mesh.build import make_mesh
from nlm_jax.mesh.rules import rules
from nlm_jax.mesh.sharding import shardings
from nlm_jax.models.naturelm import NatureLMModel
from nlm_jax.models.presets import preset

FILE = pathlib.Path(__file__).with_name("shardings.json")
CASES = [(name, sizes) for name in ("tiny", "llama-3.1-8b") for sizes in ((1, 8, 1), (2, 2, 2), (1, 4, 2), (1, 2, 4))]


def table(name, sizes):
    """Path -> "shape names spec" of every parameter of a preset on a mesh."""
    state = nnx.state(nnx.eval_shape(lambda: NatureLMModel(preset(name), rngs=nnx.Rngs(0))))
    specs = named_leaves(shardings(state, make_mesh(*sizes), rules()))
    is_variable = lambda x: isinstance(x, nnx.Variable)  # noqa: E731
    rows = {}
    for variable, path in zip(jax.tree.leaves(state, is_leaf=is_variable), specs, strict=True):
        names = " ".join(a or "-" for a in variable.get_metadata()["out_sharding"])
        shape = "x".join(map(str, variable.get_value().shape))
        rows[path] = f"{shape} [{names}] {tuple(specs[path].spec)}"
    return rows


@pytest.mark.parametrize(("name", "sizes"), CASES, ids=lambda v: v if isinstance(v, str) else "x".join(map(str, v)))
def test_shardings_are_as_committed(name, sizes):
    key = f"{name} {'x'.join(map(str, sizes))}"
    rows = table(name, sizes)
    if os.environ.get("NLM_WRITE_GOLDEN"):
        committed = json.loads(FILE.read_text()) if FILE.is_file() else {}
        FILE.write_text(json.dumps(committed | {key: rows}, indent=1, sort_keys=True) + "\n")
    assert rows == json.loads(FILE.read_text())[key]
