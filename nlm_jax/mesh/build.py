"""Construction and checks of the mesh over all devices of all processes."""

import math

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from nlm_jax.core.errors import UserError
from nlm_jax.mesh.axes import MESH_AXES


def make_mesh(data: int = 1, fsdp: int = -1, tensor: int = 1, *, devices=None) -> Mesh:
    """Mesh of the axes (data, fsdp, tensor). One size may be -1: it takes the remaining devices.

    Args:
      data, fsdp, tensor: sizes of the axes.
      devices: devices to use; None for all devices of all processes.

    Raises:
      UserError: the product of the sizes is not the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes, text = [data, fsdp, tensor], f"mesh data={data} fsdp={fsdp} tensor={tensor}"
    if sizes.count(-1) > 1 or any(s == 0 or s < -1 for s in sizes):
        raise UserError(f"{text}: sizes are positive, and one of them may be -1 to take the remaining devices")
    if -1 in sizes:
        fixed = math.prod(s for s in sizes if s != -1)
        if len(devices) % fixed:
            raise UserError(f"{text}: {fixed} does not divide the {len(devices)} devices; choose sizes that do")
        sizes[sizes.index(-1)] = len(devices) // fixed
    if math.prod(sizes) != len(devices):
        raise UserError(
            f"{text}: makes {math.prod(sizes)} but there are {len(devices)} devices; set one size to -1 to fill it"
        )
    # Auto, because under the default (Explicit) an embedding lookup in a sharded table is an error.
    types = (AxisType.Auto,) * len(MESH_AXES)
    try:
        return jax.make_mesh(tuple(sizes), MESH_AXES, axis_types=types, devices=devices)
    except NotImplementedError:  # no size is a product of sides of the slice: an axis must split a side
        split = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
        return Mesh(split, MESH_AXES, axis_types=types)


def check_processes(mesh: Mesh) -> None:
    """Raises UserError if the tensor axis crosses processes: each of them reads different rows."""
    processes, parts = len({d.process_index for d in mesh.devices.flat}), mesh.shape["data"] * mesh.shape["fsdp"]
    if parts % processes:
        raise UserError(
            f"mesh tensor={mesh.shape['tensor']}: leaves data x fsdp = {parts} for {processes} processes, which each "
            "read their own rows; choose a tensor size that divides the devices of one process"
        )


def describe(mesh: Mesh) -> str:
    """The mesh as text: `1x4x2 (data, fsdp, tensor) on 8 cpu devices`."""
    sizes = "x".join(str(mesh.shape[a]) for a in MESH_AXES)
    return f"{sizes} ({', '.join(MESH_AXES)}) on {mesh.size} {mesh.devices.flat[0].platform} devices"
