"""Digests: the same on every mesh, another one for any change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from nlm_jax.core.tree import digest, digests, named_leaves
from nlm_jax.mesh.build import make_mesh

VALUES = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32, jnp.bool_])
def test_the_mesh_makes_no_difference(dtype):
    leaf = jnp.asarray(VALUES * 3).astype(dtype)
    digest_set = {digest(leaf)}
    for sizes, spec in (((1, 8, 1), ("fsdp",)), ((2, 2, 2), ("fsdp", "tensor")), ((8, 1, 1), (None, "data"))):
        digest_set.add(digest(jax.device_put(leaf, NamedSharding(make_mesh(*sizes), PartitionSpec(*spec)))))
    assert len(digest_set) == 1


def test_every_change_shows():
    leaf = jnp.asarray(VALUES)
    one = VALUES.copy()
    one[3, 5] = np.nextafter(one[3, 5], 9)
    swapped = VALUES.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    moved = VALUES.copy()
    moved[0, 0], moved[0, 1] = VALUES[0, 1], VALUES[0, 0]
    others = [one, swapped, moved, VALUES.reshape(16, 8), VALUES.T, VALUES.astype(np.float16)]
    assert len({digest(leaf), *(digest(jnp.asarray(o)) for o in others)}) == 1 + len(others)


def test_digests_by_path():
    tree = {"a": {"b": jnp.ones(3)}, "c": [jnp.zeros(2), jnp.ones(2)]}
    assert list(named_leaves(tree)) == ["a/b", "c/0", "c/1"]
    digest_set = digests(tree)
    assert digest_set["a/b"] == digest(jnp.ones(3))
    assert len(set(digest_set.values())) == 3
