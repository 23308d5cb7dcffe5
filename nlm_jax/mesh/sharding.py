"""Shardings: of a state by the names of its axes, of a batch by rows; checks of sizes against the mesh."""

import math

import jax
from flax import nnx
from flax.core.spmd import get_logical_axis_rules
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from nlm_jax.core.errors import UserError
from nlm_jax.mesh.axes import ROWS
from nlm_jax.mesh.rules import Rules


def shardings(abstract, mesh: Mesh, rules: Rules):
    """Sharding of every leaf of `abstract` (the result of eval_shape), in the same structure.

    Variables carry the logical names of their axes, and Adam's moments inherit them, so one call covers a whole train
    state; leaves without names are replicated. A dimension that its mesh axis does not divide is replicated
    (an odd vocabulary, a head count below the tensor axis), which is slower but correct.
    """
    with nnx.logical_axis_rules(rules):
        specs = nnx.get_partition_spec(abstract)
    return jax.tree.map(lambda leaf, spec: NamedSharding(mesh, divisible(leaf.shape, spec, mesh)), abstract, specs)


def divisible(shape: tuple[int, ...], spec: PartitionSpec, mesh: Mesh | AbstractMesh) -> PartitionSpec:
    """`spec` without mesh axes that do not divide their dimension, or that an earlier dimension already uses."""
    used: set[str] = set()
    entries: list = []
    for size, entry in zip(shape, tuple(spec) + (None,) * len(shape), strict=False):
        axes = (entry,) if isinstance(entry, str) else tuple(entry or ())
        fits = axes and not used & set(axes) and size % math.prod(mesh.shape[a] for a in axes) == 0
        used |= set(axes) if fits else set()
        entries.append(entry if fits else None)
    while entries and entries[-1] is None:
        entries.pop()
    return PartitionSpec(*entries)


def rows_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of a batch: rows over (data, fsdp), other axes not sharded."""
    return NamedSharding(mesh, PartitionSpec(ROWS))


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of an array that is whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def place_batch(batch, mesh: Mesh):
    """This process's rows (numpy, leading axis) as one global array per leaf, sharded over (data, fsdp).

    Raises:
      UserError: data x fsdp does not divide the number of rows of all processes.
    """
    leaves = jax.tree.leaves(batch)
    check_rows(leaves[0].shape[0] * jax.process_count(), mesh)
    sharding = rows_sharding(mesh)
    return jax.tree.map(lambda a: jax.make_array_from_process_local_data(sharding, a), batch)


def check_rows(rows: int, mesh: Mesh) -> None:
    """Raises UserError if `rows` (of all processes) do not divide over (data, fsdp)."""
    parts = math.prod(mesh.shape[a] for a in ROWS)
    if rows % parts:
        raise UserError(
            f"{rows} rows per step do not divide over data={mesh.shape['data']} x fsdp={mesh.shape['fsdp']}; "
            f"use a multiple of {parts} rows or another mesh"
        )


def check_heads(heads: int, mesh: Mesh) -> None:
    """Raises UserError if `heads` attention heads do not divide over the tensor axis."""
    if heads % mesh.shape["tensor"]:
        raise UserError(
            f"mesh tensor={mesh.shape['tensor']} does not divide the {heads} attention heads of the language model; "
            "choose a tensor size that does"
        )


def constrain_rows(x: jax.Array) -> jax.Array:
    """Constrains the leading axis of an activation to (data, fsdp), so that XLA gathers weights and not activations.

    Without it, weights sharded over fsdp cause activations to be sharded along their width, and every device computes
    all rows. Returns `x` itself outside a mesh with these axes, or if the rows do not divide (one question on a large
    mesh).
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not set(ROWS) <= set(mesh.axis_names) or x.shape[0] % math.prod(mesh.shape[a] for a in ROWS):
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(ROWS, *[PartitionSpec.UNCONSTRAINED] * (x.ndim - 1)))


def gather_weights(layer):
    """Constrains a layer's weights for computation: gathered over (data, fsdp), sharded over tensor only.

    Explicit, because the TPU compiler otherwise turns each product with a weight sharded over fsdp into a loop over the
    shards. The saving has not been measured at 8B. Returns `layer` itself outside a mesh or outside
    `nnx.logical_axis_rules`.

    Args:
      layer: one layer of a stack, inside its scan: variables whose first axis name, "layers", no longer has an axis.
    """
    mesh, table = jax.sharding.get_abstract_mesh(), dict(get_logical_axis_rules() or ())
    if not table or not set(ROWS) <= set(mesh.axis_names):
        return layer

    def gather(leaf):
        if not isinstance(leaf, nnx.Variable):
            return leaf
        value, names = leaf.get_value(), leaf.get_metadata("out_sharding")[1:]
        axes = (table.get(name) for name in names)
        spec = divisible(value.shape, PartitionSpec(*(None if axis in ROWS else axis for axis in axes)), mesh)
        return leaf.replace(jax.lax.with_sharding_constraint(value, spec))

    return jax.tree.map(gather, layer, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
