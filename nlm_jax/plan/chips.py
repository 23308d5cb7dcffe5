"""Peak figures of chips from the vendors' data sheets, by the names that `--topology` accepts."""

import dataclasses

GB = 10**9
GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """Peak figures of one chip, from data sheets; none of them is measured."""

    name: str
    platform: str
    """tpu: compiled by libtpu. gpu: not compiled for here; its figures are derived from a CPU compilation."""
    flops: float
    """Dense bfloat16 FLOP/s."""
    hbm: int
    """Bytes of memory."""
    hbm_rate: float
    """Bytes/s between memory and the chip."""
    link_rate: float
    """Bytes/s that a chip sends to its neighbours: sum over all links, one direction."""
    per_host: int
    """Chips of a full host."""
    clock: float = 0.0
    """Hz; converts the compiler's cycles to seconds. 0 if the compiler gives no cycles."""
    cap: int = 0
    """Maximum number of chips of one slice, or of one host with fast links."""
    mxu: int = 0
    """Columns of a TPU's matrix unit."""
    cores: int = 1
    """Cores of a TPU chip."""

    ALUS = 4
    """Vector operations of a lane in one cycle; exponentials: one."""

    @property
    def vector_rate(self) -> float:
        """Vector operations/s of a TPU: 8 x 128 lanes of each core."""
        return self.cores * 8 * 128 * self.ALUS * self.clock


CHIPS = {
    "v5e": Chip("TPU v5e", "tpu", 197e12, 16 * GIB, 819e9, 100e9, 4, 1.5e9, 256, mxu=128),
    "v5p": Chip("TPU v5p", "tpu", 459e12, 95 * GIB, 2765e9, 300e9, 4, 1.75e9, 8960, mxu=128, cores=2),
    "v6e": Chip("TPU v6e", "tpu", 918e12, 32 * GIB, 1640e9, 224e9, 4, 1.75e9, 256, mxu=256),
    "a100": Chip("A100 80GB", "gpu", 312e12, 80 * GB, 2039e9, 300e9, 8, cap=8),
    "h100": Chip("H100", "gpu", 989e12, 80 * GB, 3350e9, 450e9, 8, cap=8),
    "h200": Chip("H200", "gpu", 989e12, 141 * GB, 4800e9, 450e9, 8, cap=8),
}
"""A TPU's clock follows from its peak: FLOP/s divided by two for each of its multipliers.

TPUs: Google Cloud's pages of each version. GPUs: NVIDIA's data sheets, NVLink in one direction."""
