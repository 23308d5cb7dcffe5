"""Sizes that programs are compiled for: rows that divide over a mesh, lengths rounded up."""

import contextlib
import math

import jax

from nlm_jax.mesh.axes import ROWS


def on_mesh(mesh: jax.sharding.Mesh | None):
    """The context in which programs are cut over `mesh`."""
    return contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)


def whole_rows(rows: int, mesh: jax.sharding.Mesh | None) -> int:
    """`rows` rounded up to what divides over the mesh's data and fsdp axes."""
    parts = 1 if mesh is None else math.prod(mesh.shape[axis] for axis in ROWS)
    return -(-rows // parts) * parts


def rounded_up(number: int, multiple: int) -> int:
    """`number` rounded up to a multiple."""
    return -(-number // multiple) * multiple
