"""Placement: shardings of a state from the names of its axes, batches by rows, and the limits of a mesh."""

import math

import jax
from flax import nnx
from flax.core.spmd import get_logical_axis_rules
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from nlm_jax.core.errors import UserError
from nlm_jax.mesh.axes import ROWS
from nlm_jax.mesh.rules import Rules


def shardings(abstract, mesh: Mesh, rules: Rules):
    """Sharding of every leaf of `abstract` (what eval_shape gives), in the same structure.

    Variables carry the logical names of their axes, and Adam's moments inherit them, so that one call covers a whole
    train state; leaves without names are replicated. A dimension that its mesh axis does not divide is replicated
    (an odd vocabulary, a head count below the tensor axis), which is slower and never wrong.
    """
    with nnx.logical_axis_rules(rules):
        specs = nnx.get_partition_spec(abstract)
    return jax.tree.map(lambda leaf, spec: NamedSharding(mesh, divisible(leaf.shape, spec, mesh)), abstract, specs)


def divisible(shape: tuple[int, ...], wanted: PartitionSpec, mesh: Mesh | AbstractMesh) -> PartitionSpec:
    """`wanted` without mesh axes that do not divide their dimension, or that an earlier dimension already uses."""
    used: set[str] = set()
    spec: list = []
    for size, entry in zip(shape, tuple(wanted) + (None,) * len(shape), strict=False):
        axes = (entry,) if isinstance(entry, str) else tuple(entry or ())
        fits = axes and not used & set(axes) and size % math.prod(mesh.shape[a] for a in axes) == 0
        used |= set(axes) if fits else set()
        spec.append(entry if fits else None)
    while spec and spec[-1] is None:
        spec.pop()
    return PartitionSpec(*spec)


def rows_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over (data, fsdp), everything else whole."""
    return NamedSharding(mesh, PartitionSpec(ROWS))


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def place_batch(batch, mesh: Mesh):
    """This process's rows (numpy, leading axis) as one global array per leaf, spread over (data, fsdp).

    Raises:
      UserError: the rows of all processes together do not divide.
    """
    leaves = jax.tree.leaves(batch)
    check_rows(leaves[0].shape[0] * jax.process_count(), mesh)
    sharding = rows_sharding(mesh)
    return jax.tree.map(lambda a: jax.make_array_from_process_local_data(sharding, a), batch)


def check_rows(rows: int, mesh: Mesh) -> None:
    """Raises UserError when `rows` (of all processes) do not divide over (data, fsdp)."""
    parts = math.prod(mesh.shape[a] for a in ROWS)
    if rows % parts:
        raise UserError(
            f"{rows} rows per step do not divide over data={mesh.shape['data']} x fsdp={mesh.shape['fsdp']}; "
            f"use a multiple of {parts} rows or another mesh"
        )


def check_heads(heads: int, mesh: Mesh) -> None:
    """Raises UserError when `heads` attention heads do not divide over the tensor axis."""
    if heads % mesh.shape["tensor"]:
        raise UserError(
            f"mesh tensor={mesh.shape['tensor']} does not divide the {heads} attention heads of the language model; "
            "choose a tensor size that does"
        )


def constrain_rows(x: jax.Array) -> jax.Array:
    """Holds the leading axis of an activation over (data, fsdp), so that XLA gathers weights and not activations.

    Without it, weights cut over fsdp pull the activations apart along their width, and every device computes all rows.
    Outside a mesh with these axes, or where the rows do not divide (one question on a large mesh), it gives `x` back.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not set(ROWS) <= set(mesh.axis_names) or x.shape[0] % math.prod(mesh.shape[a] for a in ROWS):
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(ROWS, *[PartitionSpec.UNCONSTRAINED] * (x.ndim - 1)))


def gather_weights(layer):
    """A layer's weights as it computes with them: whole over (data, fsdp), cut over tensor alone.

    Said outright, because the TPU compiler otherwise turns each product with a weight cut over fsdp into a loop over
    the pieces. What that saves has not been measured at 8B. Outside a mesh, or outside `nnx.logical_axis_rules`, it
    gives `layer` back.

    Args:
      layer: one layer of a stack, inside its scan: variables whose first axis name, "layers", has no axis any more.
    """
    mesh, table = jax.sharding.get_abstract_mesh(), dict(get_logical_axis_rules() or ())
    if not table or not set(ROWS) <= set(mesh.axis_names):
        return layer

    def gathered(leaf):
        if not isinstance(leaf, nnx.Variable):
            return leaf
        value, names = leaf.get_value(), leaf.get_metadata("out_sharding")[1:]
        axes = (table.get(name) for name in names)
        spec = divisible(value.shape, PartitionSpec(*(None if axis in ROWS else axis for axis in axes)), mesh)
        return leaf.replace(jax.lax.with_sharding_constraint(value, spec))

    return jax.tree.map(gathered, layer, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
