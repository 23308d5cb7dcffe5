"""Trees by path: names of leaves, selection by path, and a digest that does not depend on the mesh."""

import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

METADATA = ("value",)
"""Attribute names that a parameter container puts between a name and its array; not part of a path."""


def name(path: tuple) -> str:
    """`beats/layers/fc1/kernel` from a key path of jax.tree_util, whether or not the leaf is wrapped in a variable."""
    parts = [str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path]
    return "/".join(p for i, p in enumerate(parts) if not (p in METADATA and i == len(parts) - 1))


def named_leaves(tree) -> dict[str, Any]:
    """Path -> leaf, in the tree's own order."""
    return {name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def nest(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts from a mapping path -> leaf: the inverse of `named_leaves` for a tree of dicts."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


def map_named(f: Callable, tree, *rest):
    """`f(path, leaf, *leaves of rest)` over a tree, with the path as text."""
    return jax.tree.map_with_path(lambda path, *leaves: f(name(path), *leaves), tree, *rest)


def digests(tree) -> dict[str, str]:
    """Path -> digest of every leaf: the same on every mesh, without gathering any leaf.

    Each element's bits are mixed with its index and summed modulo 2^32 in four lanes. Integer sums do not depend on
    their order, so the partition cannot matter; a changed, moved or rounded element does.
    """
    return {path: digest(leaf) for path, leaf in named_leaves(tree).items()}


def revision(tree) -> str:
    """Digest of a whole tree, 16 hexadecimal digits; see `digests`."""
    lines = "".join(f"{path} {value}\n" for path, value in sorted(digests(tree).items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def digest(leaf: jax.Array) -> str:
    """Digest of one array of any dtype and rank, with its shape and dtype."""
    lanes = ",".join(str(int(lane)) for lane in jax.device_get(_lanes(jnp.asarray(leaf))))
    return hashlib.sha256(f"{leaf.shape}{jnp.dtype(leaf.dtype).name}:{lanes}".encode()).hexdigest()[:32]


@functools.partial(jax.jit, static_argnames="lanes")
def _lanes(x, lanes: int = 4):
    width = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[jnp.dtype(x.dtype).itemsize]
    bits = x.astype(width) if x.dtype == bool else jax.lax.bitcast_convert_type(x, width)
    bits = bits.astype(jnp.uint32)
    index = jnp.zeros(x.shape, jnp.uint32)
    for axis in range(x.ndim):
        index = _mix(index ^ (jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis) + jnp.uint32(0x9E3779B9 + axis)))
    sums = [
        jnp.sum(_mix(_mix(bits + jnp.uint32(lane * 0x1B873593)) ^ index), dtype=jnp.uint32) for lane in range(lanes)
    ]
    return jnp.stack(sums)


def _mix(x):
    """A bijection of 32-bit words that spreads every input bit (Murmur3's finalizer)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
