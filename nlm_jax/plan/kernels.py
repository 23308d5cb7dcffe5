"""Estimated time of the Pallas kernels of a step, for which the compiler gives no cycles.

Matrix units are counted at the width that a product uses: a head of 64 values fills 64 of a unit's 128 (v6e: 256)
columns, and takes as long as one of 128. Vector units are counted by operations per score, exponentials apart. The
three do not overlap in this account, so it is an upper estimate as long as memory does not limit the kernel.
"""

from collections.abc import Sequence

from nlm_jax.core.frames import n_tokens
from nlm_jax.mesh.axes import ROWS
from nlm_jax.models.beats.config import BeatsConfig
from nlm_jax.models.llama.config import LlamaConfig
from nlm_jax.nn.attention import LANES
from nlm_jax.nn.gated_attention_tpu import supported
from nlm_jax.plan.chips import Chip
from nlm_jax.plan.compile import Compiled
from nlm_jax.plan.topology import Topology

FORWARD, BACKWARD = (2, 7), (5, 14)
"""Products, and vector operations on a score, of one pass of the gated attention (counted in its kernels)."""
PLAIN_FORWARD, PLAIN_BACKWARD = (2, 5), (5, 10)
"""The same without a gated bias."""


def kernel_seconds(compiled: Compiled, topology: Topology) -> dict[str, float]:
    """Kernel -> seconds of a step on one chip; empty if the chip runs none."""
    model, stage, mesh, chip = compiled.program.model, compiled.program.stage, compiled.program.mesh, topology.chip
    if chip.platform != "tpu":
        return {}
    seconds, data = {}, stage.data
    rows = data.rows / (mesh.shape[ROWS[0]] * mesh.shape[ROWS[1]])
    again = model.remat in ("full", "dots")  # these save no output of attention
    if supported(model.beats.head):
        passes = [
            FORWARD,
            *((BACKWARD,) if stage.train.beats else ()),
            *((FORWARD,) if stage.train.beats and again else ()),
        ]
        heads = model.beats.heads / (mesh.shape["tensor"] if model.beats.heads % mesh.shape["tensor"] == 0 else 1)
        seconds["gated attention (BEATs)"] = gated_attention_seconds(
            chip, model.beats, data.samples, rows * data.row_clips * heads, passes
        )
    if model.attention == "splash":
        passes = [PLAIN_FORWARD, PLAIN_BACKWARD, *((PLAIN_FORWARD,) if again else ())]
        tensor = mesh.shape["tensor"] if model.llama.kv_heads % mesh.shape["tensor"] == 0 else 1
        heads = rows * model.llama.heads / tensor
        seconds["splash attention"] = splash_seconds(chip, model.llama, data.row_tokens, heads, passes)
    return seconds


def gated_attention_seconds(
    chip: Chip, beats: BeatsConfig, samples: int, heads: float, passes: Sequence[tuple[int, int]]
) -> float:
    """BEATs' attention: all scores of the positions, which are padded to whole lanes.

    Args:
      samples: of a clip.
      heads: clips times heads on the chip.
      passes: products and vector operations of each pass.
    """
    positions = -(-n_tokens(samples) // LANES) * LANES
    return beats.layers * heads * pass_seconds(chip, positions**2, beats.head, passes)


def splash_seconds(
    chip: Chip, llama: LlamaConfig, row_tokens: int, heads: float, passes: Sequence[tuple[int, int]]
) -> float:
    """The language model's attention: the half of the scores below the diagonal.

    Args:
      heads: rows times heads on the chip.
      passes: see `gated_attention_seconds`.
    """
    return llama.layers * heads * pass_seconds(chip, row_tokens**2 / 2, llama.head_dim, passes)


def pass_seconds(chip: Chip, scores: float, head_dim: int, passes: Sequence[tuple[int, int]]) -> float:
    """Seconds of one head with `scores` scores."""
    products = sum(n for n, _ in passes) * 2 * scores * max(head_dim, chip.mxu) / chip.flops
    return products + sum(vector_seconds(chip, scores, operations) for _, operations in passes)


def vector_seconds(chip: Chip, scores: float, operations: int) -> float:
    """Seconds of `operations` vector operations and one exponential on each of `scores` scores."""
    return scores * operations / chip.vector_rate + scores / (chip.vector_rate / chip.ALUS)
