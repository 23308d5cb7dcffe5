"""Specs from names, batches by rows, and the messages about invalid meshes."""

import jax
import numpy as np
import pytest
import tiny_training as tiny
from jax.sharding import PartitionSpec as P

from nlm_jax.core.errors import UserError
from nlm_jax.mesh.build import describe, make_mesh
from nlm_jax.mesh.rules import rules
from nlm_jax.mesh.sharding import check_heads, constrain_rows, divisible, place_batch


def test_sizes_are_filled_in():
    assert make_mesh().devices.shape == (1, 8, 1)
    assert make_mesh(2, -1, 2).devices.shape == (2, 2, 2)
    assert describe(make_mesh(2, 2, 2)) == "2x2x2 (data, fsdp, tensor) on 8 cpu devices"


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((1, -1, 3), "3 does not divide the 8 devices"),
        ((1, 2, 2), "makes 4 but there are 8 devices"),
        ((-1, -1, 1), "one of them may be -1"),
        ((0, 8, 1), "sizes are positive"),
    ],
)
def test_invalid_meshes(sizes, message):
    with pytest.raises(UserError, match=message):
        make_mesh(*sizes)


def test_a_dimension_that_does_not_divide_is_replicated():
    mesh = make_mesh(1, 4, 2)
    assert divisible((8, 6), P("fsdp", "tensor"), mesh) == P("fsdp", "tensor")
    assert divisible((6, 6), P("fsdp", "tensor"), mesh) == P(None, "tensor")
    assert divisible((8, 8), P("fsdp", "fsdp"), mesh) == P("fsdp")
    assert divisible((8, 7), P(("data", "fsdp"), "tensor"), mesh) == P(("data", "fsdp"))


def test_rules():
    table = dict(rules())
    assert table["embed"] == "fsdp"
    assert table["heads"] == table["mlp"] == "tensor"
    assert table["vocab"] is None  # no mesh divides 128257 rows
    assert set(dict(rules("replicated")).values()) == {None}
    assert dict(rules(changes={"vocab": "tensor"}))["vocab"] == "tensor"
    with pytest.raises(UserError, match="did you mean 'default'"):
        rules("defualt")
    with pytest.raises(UserError, match="did you mean 'embed'"):
        rules(changes={"embde": "fsdp"})
    with pytest.raises(UserError, match="did you mean 'tensor'"):
        rules(changes={"mlp": "tensors"})


def test_batches_are_sharded_by_rows():
    mesh = make_mesh(2, 2, 2)
    batch = tiny.batch(0)
    placed = place_batch(batch, mesh)
    assert placed.tokens.sharding.spec == P(("data", "fsdp"))
    assert placed.tokens.addressable_shards[0].data.shape == (2, 32)
    np.testing.assert_array_equal(placed.audio, batch.audio)


def test_sizes_that_do_not_divide():
    with pytest.raises(UserError, match="6 rows per step do not divide over data=2 x fsdp=2"):
        place_batch(tiny.batch(0, rows=6), make_mesh(2, 2, 2))
    with pytest.raises(UserError, match="tensor=8 does not divide the 4 attention heads"):
        check_heads(4, make_mesh(1, 1, 8))


def test_constrain_rows_needs_no_mesh():
    x = jax.numpy.ones((8, 4))
    assert jax.jit(constrain_rows)(x).shape == x.shape
    with jax.set_mesh(make_mesh(2, 4, 1)):
        assert jax.jit(constrain_rows)(x).sharding.spec[0] == ("data", "fsdp")
