"""Step time from a compiled step: a roofline of compute, memory and links, and the compiler's own estimate."""

import dataclasses
import math
from typing import Any

from nlm_jax.mesh.axes import MESH_AXES
from nlm_jax.plan.chips import Chip
from nlm_jax.plan.compile import Compiled
from nlm_jax.plan.kernels import kernel_seconds
from nlm_jax.plan.topology import Topology
from nlm_jax.train.flops import forward_flops

EXAMPLE_TOKENS, EXAMPLE_ANSWERS = 87, 0.17
"""Mean tokens per example (clip vectors included) and share of answer tokens, from a simulation of the training set's
task mix."""
FILLED = 0.95
"""Share of a row that packing fills if the clip slots do not run out first."""
USABLE = 0.94
"""Share of a chip's memory available to a program; the runtime uses the rest."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Predicted figures of one step; none of them is measured."""

    rows: int
    clips: float
    tokens: float
    flops: float
    """Model FLOPs of forward and backward pass on all chips: no recomputation, no padding."""
    compute_seconds: float
    """Compute at peak rate, recomputation included."""
    memory_seconds: float
    """Reading the weights of every pass once."""
    link_seconds: float
    """Sending the bytes of the census at the links' peak rate."""
    compiler_seconds: float
    """The compiler's cycle estimates at the chip's clock and the kernels' time; 0 if it gives none."""
    kernels: dict[str, float]
    """Kernel -> seconds by formula, see `plan.kernels`; part of `compiler_seconds`."""
    seconds: float
    """Predicted step time: the largest of the four."""

    def mfu(self, chips: int, chip: Chip) -> float:
        """Model FLOPs utilization: share of the chips' peak rate."""
        return self.flops / self.seconds / (chips * chip.flops)


def estimate(compiled: Compiled, topology: Topology) -> Estimate:
    """The roofline of a compiled step on the chips of `topology`."""
    stage, model, chip = compiled.program.stage, compiled.program.model, topology.chip
    census = compiled.census
    rows = stage.data.rows
    clips = rows * min(stage.data.row_clips, FILLED * stage.data.row_tokens / EXAMPLE_TOKENS)
    tokens = clips * EXAMPLE_TOKENS
    per = forward_flops(model, stage.data.samples, EXAMPLE_TOKENS)
    flops = per.training(stage.train, clips, tokens, tokens * EXAMPLE_ANSWERS)
    # The device computes every position and clip slot of a row, and recomputes activations that are not saved.
    computed = per.training(
        stage.train, rows * stage.data.row_clips, rows * stage.data.row_tokens, rows * stage.data.row_answers
    )
    recomputed = per.token * rows * stage.data.row_tokens if model.remat == "full" else 0.0
    passes = 3 if model.remat == "full" else 2
    weights = sum(math.prod(x.shape) * x.dtype.itemsize for x in compiled.program.params().values())
    kernels = kernel_seconds(compiled, topology)
    times = {
        "compute_seconds": (computed + recomputed) / topology.chips / chip.flops,
        "memory_seconds": passes * weights / compiled.program.mesh.shape["tensor"] / chip.hbm_rate,
        "link_seconds": census.bytes / chip.link_rate,
        "compiler_seconds": census.cycles / chip.clock + sum(kernels.values()) if chip.clock else 0.0,
    }
    figures = {"rows": rows, "clips": clips, "tokens": tokens, "flops": flops, "kernels": kernels}
    return Estimate(**figures, seconds=max(times.values()), **times)


def make_report(compiled: Compiled, topology: Topology) -> dict[str, Any]:
    """All figures as one mapping, the content of `--json`."""
    e, mesh, data = estimate(compiled, topology), compiled.program.mesh, compiled.program.stage.data
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    return {
        "topology": topology.text,
        "chip": topology.chip.name,
        "chips": topology.chips,
        "mesh": "x".join(str(mesh.shape[a]) for a in MESH_AXES),
        "stage": compiled.program.stage.name,
        "remat": compiled.program.model.remat,
        "attention": compiled.program.model.attention,
        "rows": e.rows,
        "rows_per_chip": e.rows / parts,
        "row_tokens": data.row_tokens,
        "row_clips": data.row_clips,
        "argument_bytes_per_chip": compiled.arguments,
        "temporary_bytes_per_chip": compiled.temporaries,
        "peak_bytes_per_chip": compiled.peak,
        "hbm_bytes_per_chip": topology.chip.hbm,
        "fits": compiled.peak <= USABLE * topology.chip.hbm,
        "flops_per_step": e.flops,
        "collectives": {
            k: {"count": compiled.census.count[k], "bytes": compiled.census.sent[k]} for k in compiled.census.count
        },
        "collective_bytes_per_chip": compiled.census.bytes,
        "compiler_cycles": compiled.census.cycles,
        "roofline_seconds": {
            "compute": e.compute_seconds,
            "hbm": e.memory_seconds,
            "interconnect": e.link_seconds,
            "compiler": e.compiler_seconds,
        },
        "kernel_seconds": e.kernels,
        "predicted_step_seconds": e.seconds,
        "predicted_clips_per_second": e.clips / e.seconds,
        "predicted_tokens_per_second": e.tokens / e.seconds,
        "predicted_mfu": e.mfu(topology.chips, topology.chip),
        "compile_seconds": compiled.seconds,
        "source": "compiled by libtpu" if topology.chip.platform == "tpu" else "computed; memory as compiled for CPUs",
    }
