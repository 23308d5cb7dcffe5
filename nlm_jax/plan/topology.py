"""Devices to compile for, from text such as `v5e:4x4`. libtpu describes slices and compiles for them without a TPU."""

import contextlib
import dataclasses
import math
import os
import re
from collections.abc import Iterator

import jax
import numpy as np

from nlm_jax.core.errors import UserError
from nlm_jax.plan.chips import CHIPS, Chip

QUIET = {
    "TPU_SKIP_MDS_QUERY": "1",  # there is no metadata server on a machine without TPU
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # two plans may run at once
}
ACCELERATOR = {"v5e": "v5litepod-16", "v5p": "v5p-16", "v6e": "v6e-16"}
"""Value of TPU_ACCELERATOR_TYPE per kind; libtpu accepts any size of the right kind."""


@dataclasses.dataclass(frozen=True)
class Topology:
    """A TPU slice or a host with GPUs."""

    text: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def chips(self) -> int:
        """Number of chips."""
        return math.prod(self.shape)


def parse(text: str) -> Topology:
    """Parses `KIND:SHAPE`, such as `v5e:4x4`, `v5p:4x4x8` or `h100:8`.

    Raises:
      UserError: an unsupported kind of chip, or a shape that this kind does not have.
    """
    kind, colon, sizes = text.lower().partition(":")
    if kind not in CHIPS or not colon:
        raise UserError(
            f"--topology {text}: write KIND:SHAPE such as v5e:4x4, v5p:4x4x8, v6e:8x8 or h100:8; "
            f"supported kinds: {', '.join(CHIPS)}"
        )
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", sizes):
        raise UserError(f"--topology {text}: {sizes or 'nothing'} is not a shape; write it as 4x4 or 4x4x8")
    chip, shape = CHIPS[kind], tuple(int(s) for s in sizes.split("x"))
    dimensions = {"v5e": 2, "v6e": 2, "v5p": 3}.get(kind, 1)
    if len(shape) != dimensions:
        example = {"v5p": "4x4x8"}.get(kind, "4x4" if dimensions == 2 else "8")
        raise UserError(f"--topology {text}: a {chip.name} has {dimensions} dimension(s), as in {kind}:{example}")
    if math.prod(shape) > chip.cap:
        raise UserError(f"--topology {text}: {math.prod(shape)} chips, but the maximum for {chip.name} is {chip.cap}")
    return Topology(text.lower(), chip, shape)


@contextlib.contextmanager
def _libtpu(kind: str) -> Iterator[None]:
    """The environment in which libtpu loads without looking for hardware."""
    settings = {**QUIET, "TPU_ACCELERATOR_TYPE": ACCELERATOR[kind]}
    before = {name: os.environ.get(name) for name in settings}
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


def devices(topology: Topology) -> list[jax.Device]:
    """Devices of a topology, on which a mesh can be compiled for but nothing can run.

    GPUs are replaced by the same number of CPU devices.

    Raises:
      UserError: libtpu is missing or does not support the slice, or there are too few CPU devices for the GPUs.
    """
    if topology.chip.platform == "gpu":
        cpus = jax.devices("cpu")
        if len(cpus) < topology.chips:
            raise UserError(
                f"--topology {topology.text}: needs {topology.chips} fake CPU devices, but there are {len(cpus)}; set "
                f"XLA_FLAGS=--xla_force_host_platform_device_count={topology.chips}"
            )
        return cpus[: topology.chips]
    from jax.experimental import topologies

    kind = topology.text.partition(":")[0]
    options: dict = {}
    if math.prod(topology.shape) < topology.chip.per_host:  # less than a host: libtpu needs its bounds
        options["chips_per_host_bounds"] = (*topology.shape, 1)[:3]
    if message := _missing_libtpu():
        raise UserError(message)
    with _libtpu(kind):
        try:
            name = f"{kind}:{'x'.join(map(str, topology.shape))}"
            slice_devices = topologies.get_topology_desc(platform="tpu", topology_name=name, **options).devices
        except Exception as error:  # libtpu's errors have no type of their own
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(f"--topology {topology.text}: libtpu has no such slice ({reason})") from error
    return list(np.asarray(slice_devices).flat)


def _missing_libtpu() -> str | None:
    import importlib.util

    if importlib.util.find_spec("libtpu") is None:
        return "nlm plan for TPUs needs libtpu's compiler: pip install 'nlm_jax[tpu]' (it needs no TPU)"
    return None
