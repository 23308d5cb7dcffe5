"""`v5e:4x4` -> devices to compile for. No accelerator is needed: libtpu describes a slice and compiles for it."""

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
    "TPU_SKIP_MDS_QUERY": "1",  # no metadata server to ask on a machine without TPU
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # two plans at once
}
ACCELERATOR = {"v5e": "v5litepod-16", "v5p": "v5p-16", "v6e": "v6e-16"}
"""What libtpu wants to be told it runs on; any size of the right kind will do."""


@dataclasses.dataclass(frozen=True)
class Topology:
    """A named slice or box."""

    text: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def chips(self) -> int:
        return math.prod(self.shape)


def parse(text: str) -> Topology:
    """`v5e:4x4`, `v5p:4x4x8`, `h100:8`.

    Raises:
      UserError: another kind of chip, or a shape that this kind cannot have.
    """
    kind, colon, sizes = text.lower().partition(":")
    if kind not in CHIPS or not colon:
        raise UserError(
            f"--topology {text}: write KIND:SHAPE such as v5e:4x4, v5p:4x4x8, v6e:8x8 or h100:8; "
            f"known kinds are {', '.join(CHIPS)}"
        )
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", sizes):
        raise UserError(f"--topology {text}: {sizes or 'nothing'} is no shape; write it as 4x4 or 4x4x8")
    chip, shape = CHIPS[kind], tuple(int(s) for s in sizes.split("x"))
    wanted = {"v5e": 2, "v6e": 2, "v5p": 3}.get(kind, 1)
    if len(shape) != wanted:
        example = {"v5p": "4x4x8"}.get(kind, "4x4" if wanted == 2 else "8")
        raise UserError(f"--topology {text}: a {chip.name} has {wanted} dimension(s), as in {kind}:{example}")
    if math.prod(shape) > chip.cap:
        raise UserError(f"--topology {text}: {math.prod(shape)} chips, but {chip.name} goes up to {chip.cap} together")
    return Topology(text.lower(), chip, shape)


@contextlib.contextmanager
def _libtpu(kind: str) -> Iterator[None]:
    """The environment in which libtpu loads without looking for hardware."""
    wanted = {**QUIET, "TPU_ACCELERATOR_TYPE": ACCELERATOR[kind]}
    before = {name: os.environ.get(name) for name in wanted}
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


def devices(topology: Topology) -> list[jax.Device]:
    """Devices of the slice, for a mesh to compile on (nothing can run there).

    For a GPU box these are as many CPU devices, if this process has them.

    Raises:
      UserError: libtpu is missing or knows no such slice, or too few CPU devices stand in for the GPUs.
    """
    if topology.chip.platform == "gpu":
        found = jax.devices("cpu")
        if len(found) < topology.chips:
            raise UserError(
                f"--topology {topology.text}: is computed on as many fake CPU devices, but there are {len(found)}; set "
                f"XLA_FLAGS=--xla_force_host_platform_device_count={topology.chips}"
            )
        return found[: topology.chips]
    from jax.experimental import topologies

    kind = topology.text.partition(":")[0]
    options: dict = {}
    if math.prod(topology.shape) < topology.chip.per_host:  # less than a host: its bounds must be told
        options["chips_per_host_bounds"] = (*topology.shape, 1)[:3]
    if importable := _missing_libtpu():
        raise UserError(importable)
    with _libtpu(kind):
        try:
            name = f"{kind}:{'x'.join(map(str, topology.shape))}"
            found = topologies.get_topology_desc(platform="tpu", topology_name=name, **options).devices
        except Exception as error:  # libtpu's errors have no type of their own
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(f"--topology {topology.text}: libtpu has no such slice ({reason})") from error
    return list(np.asarray(found).flat)


def _missing_libtpu() -> str | None:
    import importlib.util

    if importlib.util.find_spec("libtpu") is None:
        return "nlm plan for TPUs needs libtpu's compiler: pip install 'nlm_jax[tpu]' (it needs no TPU)"
    return None
