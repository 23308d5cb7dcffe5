"""Sizes that programs are compiled for: rows that divide over a mesh, lengths rounded up."""

import contextlib
import math
from contextlib import AbstractContextManager

import jax

from nlm_jax.mesh.axes import ROWS


def on_mesh(mesh: jax.sharding.Mesh | None) -> AbstractContextManager:
    """The context in which programs are partitioned over `mesh`; no context if it is None."""
    return contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)


def whole_rows(rows: int, mesh: jax.sharding.Mesh | None) -> int:
    """`rows` rounded up to a multiple of the mesh's data and fsdp axes."""
    return rounded_up(rows, 1 if mesh is None else math.prod(mesh.shape[axis] for axis in ROWS))


def rounded_up(number: int, multiple: int) -> int:
    """`number` rounded up to a multiple of `multiple`."""
    return -(-number // multiple) * multiple


def power_of_two(number: int) -> int:
    """`number`, at least 1, rounded up to a power of two."""
    return 1 << (number - 1).bit_length()
