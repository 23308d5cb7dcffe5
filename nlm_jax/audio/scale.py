"""Samples of any type as floats in [-1, 1]: integers by the full scale of their type or of what they reach, and the
check that floats are at that scale. A wrong scale is full-scale noise or silence, so what is uncertain is refused."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

from nlm_jax.core.errors import UserError

LOUDEST = 8.0
"""Floats that reach further than 18 dB above full scale are at another one."""
LOUD_PEAK, LOUD_RMS = 2.0, 0.7
"""So are those that exceed both: sound of zero mean and unit variance does, and nothing that was recorded. Floats that
were driven too hot stay below and are clipped, as in the reference."""
WIDTHS = (16, 24, 32)
"""Bits that integers in a wider type may have come from. Not 8: quiet 16-bit samples would be taken for those."""
Bounds = tuple[float, float]
"""The smallest and the largest sample, of all that are at one scale, such as a column of a dataset."""


@dataclasses.dataclass
class Level:
    """Statistics for `fault`, gathered block by block: the scale cannot be judged from a quiet part of a recording."""

    peak: float = 0.0
    power: float = 0.0
    """Sum of squares."""
    samples: int = 0

    def add(self, block: Float[np.ndarray, "..."]) -> None:
        """Takes further samples into account; those that are not finite are for others to find."""
        block = np.asarray(block, np.float64)
        block = block[np.isfinite(block)]
        self.peak = max(self.peak, float(np.abs(block).max(initial=0.0)))
        self.power += float(np.square(np.clip(block, -1e9, 1e9)).sum())
        self.samples += block.size

    def fault(self) -> str:
        """Why the samples are at no scale of floats; "" if they are."""
        rms = math.sqrt(self.power / max(1, self.samples))
        if self.peak <= (LOUD_PEAK if rms > LOUD_RMS else LOUDEST):
            return ""
        return (
            f"samples reach {self.peak:.6g}, {rms:.3g} in the root mean square, where full scale is 1; divide them by "
            "their full scale, as in 32768 for 16 bits"
        )


def check_loudest(name: str, peak: float) -> None:
    """Raises UserError if floats called `name` reach further than any recording. (An array may be noise of unit
    variance or any other signal, so unlike a file it is not judged by more than its peak.)"""
    if peak > LOUDEST:
        raise UserError(
            f"{name}: samples reach {peak:.6g}, where full scale is 1; divide them by their full scale, as in "
            "32768 for 16 bits"
        )


def floats(samples: np.ndarray, bounds: Bounds | None = None) -> Float[np.ndarray, "..."]:
    """Samples at the scale of floats, full scale 1. Unsigned integers of 8 and 16 bits have their zero in the middle.

    Args:
      samples: of any type and shape.
      bounds: of all samples at the same scale; default: of these.

    Raises:
      UserError: no numbers, floats at another scale, or integers whose scale is uncertain.
    """
    if samples.dtype.kind == "f":
        level = Level()
        level.add(samples)
        fault = level.fault() or (
            ""
            if level.peak <= 1.0 or (samples % 1).any()
            else "samples are whole numbers; divide them by their full scale"
        )
        if fault:
            raise UserError(fault)
        return samples
    if samples.dtype.kind not in "iu":
        raise UserError(f"samples of type {samples.dtype}; numbers are needed, such as 16-bit integers or floats")
    if not samples.size:
        return samples.astype(np.float32)
    low, high = bounds or (float(samples.min()), float(samples.max()))
    zero, full = integer_scale(samples.dtype, low, high)
    return (samples.astype(np.float64) - zero) / full


def integer_scale(dtype: np.dtype, low: float, high: float) -> tuple[float, float]:
    """(zero, full scale) of integers between `low` and `high`.

    Types of up to 16 bits have their own. Of wider ones the smallest of `WIDTHS` that holds the samples counts, but 32
    bits that need more than 16 are taken as 32.

    Raises:
      UserError: samples without a zero crossing, or beyond 32 bits.
    """
    bits = 8 * dtype.itemsize
    if bits <= 16:
        full = float(1 << (bits - 1))
        return (full if dtype.kind == "u" else 0.0), full
    if low >= 0 and high > 1:  # sound swings around its zero: offset binary, or none
        for width in (8, 16, 32):
            middle = float(1 << (width - 1))
            if low <= middle <= high < 2 * middle:
                return middle, middle
        raise UserError(
            f"whole numbers from {low:.0f} to {high:.0f} have no certain scale; store int16, or floats in [-1, 1]"
        )
    reach = max(-low, high + 1)
    widths = [w for w in WIDTHS if reach <= 1 << (w - 1)]
    if not widths:
        raise UserError(f"whole numbers up to {reach:.6g}, more than 32 bits; store floats in [-1, 1]")
    width = 32 if bits == 32 and widths[0] > 16 else widths[0]
    return 0.0, float(1 << (width - 1))


def described(dtype: np.dtype, low: float, high: float) -> str:
    """How integers of an uncertain scale are read, for a notice; "" if the type determines it. Errors as above."""
    if dtype.kind not in "iu" or dtype.itemsize <= 2:
        return ""
    zero, full = integer_scale(dtype, low, high)
    if dtype.itemsize == 4 and not zero and full == 2.0**31:
        return ""
    bits = 1 + round(math.log2(full))
    form = f"unsigned {bits}-bit samples around {zero:.0f}" if zero else f"{bits}-bit samples"
    return f"{dtype} numbers from {low:.0f} to {high:.0f}, read as {form}"
