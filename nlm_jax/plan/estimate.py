"""From a compiled step to seconds: a roofline of computation, memory and links, and what the compiler expects."""

import dataclasses
import math
from typing import Any

from nlm_jax.mesh.axes import MESH_AXES
from nlm_jax.plan.chips import Chip
from nlm_jax.plan.compile import Compiled
from nlm_jax.plan.topology import Topology
from nlm_jax.train.flops import forward_flops

EXAMPLE_TOKENS, EXAMPLE_ANSWERS = 87, 0.17
"""Mean length of an example in tokens, clip vectors included, and the share that is answer: of the task mix of the
training set, simulated."""
FILLED = 0.95
"""Share of a row that packing fills where clips do not run out first."""
USABLE = 0.94
"""Share of a chip's memory that a program gets; the rest is the runtime's."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Of one step. Everything is computed, nothing measured."""

    rows: int
    clips: float
    tokens: float
    flops: float
    """Model FLOPs of forward and backward pass on all chips: no recomputation, no padding."""
    compute_seconds: float
    """At peak rate, what is recomputed included."""
    memory_seconds: float
    """Reading the weights of every pass once."""
    link_seconds: float
    """Sending what the census counted, at the links' peak."""
    compiler_seconds: float
    """The compiler's own cycle estimates at the chip's clock; 0 where it gives none. It gives none for the kernel of
    attention="splash", which is added at the chip's peak rate."""
    seconds: float
    """The largest of the four."""

    def mfu(self, chips: int, chip: Chip) -> float:
        return self.flops / self.seconds / (chips * chip.flops)


def estimate(made: Compiled, topology: Topology) -> Estimate:
    """The roofline of a compiled step on the chips of `topology`."""
    stage, model, chip = made.program.stage, made.program.model, topology.chip
    rows = stage.data.rows
    clips = rows * min(stage.data.row_clips, FILLED * stage.data.row_tokens / EXAMPLE_TOKENS)
    tokens = clips * EXAMPLE_TOKENS
    per = forward_flops(model, stage.data.samples, EXAMPLE_TOKENS)
    flops = per.training(stage.train, clips, tokens, tokens * EXAMPLE_ANSWERS)
    # The device computes every position and clip slot of a row, and the forward pass again where it is not saved.
    done = per.training(
        stage.train, rows * stage.data.row_clips, rows * stage.data.row_tokens, rows * stage.data.row_answers
    )
    again = per.token * rows * stage.data.row_tokens if model.remat == "full" else 0.0
    passes = 3 if model.remat == "full" else 2
    weights = sum(math.prod(x.shape) * x.dtype.itemsize for x in made.program.params().values())
    times = {
        "compute_seconds": (done + again) / topology.chips / chip.flops,
        "memory_seconds": passes * weights / made.program.mesh.shape["tensor"] / chip.hbm_rate,
        "link_seconds": made.census.bytes / chip.link_rate,
        "compiler_seconds": made.census.cycles / chip.clock + kernel_seconds(made, topology) if chip.clock else 0.0,
    }
    return Estimate(rows=rows, clips=clips, tokens=tokens, flops=flops, seconds=max(times.values()), **times)


def kernel_seconds(made: Compiled, topology: Topology) -> float:
    """Seconds of the TPU's attention kernel at peak: half of the blocks, the backward pass 2.5 times the forward."""
    model, data = made.program.model, made.program.stage.data
    if model.attention != "splash":
        return 0.0
    llama = model.llama
    forward = 4 * data.row_tokens**2 / 2 * llama.heads * llama.head_dim * llama.layers * data.rows
    return 3.5 * forward / topology.chips / topology.chip.flops


def report(made: Compiled, topology: Topology) -> dict[str, Any]:
    """All of it as one mapping for `--json`."""
    e, mesh, data = estimate(made, topology), made.program.mesh, made.program.stage.data
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    return {
        "topology": topology.text,
        "chip": topology.chip.name,
        "chips": topology.chips,
        "mesh": "x".join(str(mesh.shape[a]) for a in MESH_AXES),
        "stage": made.program.stage.name,
        "remat": made.program.model.remat,
        "attention": made.program.model.attention,
        "rows": e.rows,
        "rows_per_chip": e.rows / parts,
        "row_tokens": data.row_tokens,
        "row_clips": data.row_clips,
        "argument_bytes_per_chip": made.arguments,
        "temporary_bytes_per_chip": made.temporaries,
        "peak_bytes_per_chip": made.peak,
        "hbm_bytes_per_chip": topology.chip.hbm,
        "fits": made.peak <= USABLE * topology.chip.hbm,
        "flops_per_step": e.flops,
        "collectives": {k: {"count": made.census.count[k], "bytes": made.census.sent[k]} for k in made.census.count},
        "collective_bytes_per_chip": made.census.bytes,
        "compiler_cycles": made.census.cycles,
        "roofline_seconds": {
            "compute": e.compute_seconds,
            "hbm": e.memory_seconds,
            "interconnect": e.link_seconds,
            "compiler": e.compiler_seconds,
        },
        "predicted_step_seconds": e.seconds,
        "predicted_clips_per_second": e.clips / e.seconds,
        "predicted_tokens_per_second": e.tokens / e.seconds,
        "predicted_mfu": e.mfu(topology.chips, topology.chip),
        "compile_seconds": made.seconds,
        "source": "compiled by libtpu" if topology.chip.platform == "tpu" else "computed; memory as compiled for CPUs",
    }
