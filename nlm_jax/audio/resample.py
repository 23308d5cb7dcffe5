"""Waveforms of any rate to 16 kHz: by soxr, or by the filter of the reference's processor."""

import functools
import math
from typing import Literal

import numpy as np
import soxr
from jaxtyping import Float

from nlm_jax.core.dims import SAMPLE_RATE

Quality = Literal["QQ", "LQ", "MQ", "HQ", "VHQ", "kaiser_best"]
"""soxr's five, and the filter called so in resampy, which the official code resamples with."""

ZEROS, PER_ZERO = 50, 8192
"""Zero crossings of the sinc on either side, and values of the table from one to the next."""
ROLLOFF, BETA = 0.9173473712608761, 12.984585247040012
"""Share of the band that passes, and shape of the Kaiser window. Source: the filter that resampy 0.4.3 stores."""


def resample(wave: Float[np.ndarray, "T"], rate: int, quality: Quality = "HQ") -> Float[np.ndarray, "T2"]:
    """f32[T] at `rate` Hz to 16 kHz: floor(T * 16000 / rate) samples (at least one), as resampy counts them."""
    if rate == SAMPLE_RATE:
        return wave.astype(np.float32)
    length = max(1, wave.size * SAMPLE_RATE // rate)
    if quality == "kaiser_best":
        out = kaiser_best(wave, rate, length)
    else:
        out = soxr.resample(wave.astype(np.float32), rate, SAMPLE_RATE, quality=quality)[:length]
    return np.pad(out, (0, length - out.size)).astype(np.float32)


def kaiser_best(wave: Float[np.ndarray, "T"], rate: int, length: int) -> Float[np.ndarray, "length"]:
    """f64[length] at 16 kHz of f[T] at `rate` Hz: a sum of samples weighted by a windowed sinc, zeros around the wave.

    `SAMPLE_RATE / gcd` output samples lie differently between those of the input, then all repeats: each of these
    phases has weights of its own, applied to all of its outputs at once. resampy computes them for every output; its
    last digits differ by its rounding of the time. Its steps through the table are whole numbers, and so are these.
    """
    phases, hop = SAMPLE_RATE // math.gcd(rate, SAMPLE_RATE), rate // math.gcd(rate, SAMPLE_RATE)
    scale = min(1.0, SAMPLE_RATE / rate)
    side = _table().size // int(scale * PER_ZERO)  # samples on either side that have a weight, at most
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(wave.astype(np.float64), side), 2 * side)
    weights, out = np.empty(2 * side), np.empty(length)
    for phase in range(min(phases, length)):
        at, offset = divmod(phase * hop, phases)  # from sample `at` to the output
        weights[side - 1 :: -1] = _wing(offset / phases * scale, scale, side)
        weights[side:] = _wing(scale - offset / phases * scale, scale, side)
        out[phase::phases] = windows[at + 1 :: hop][: -(-(length - phase) // phases)] @ weights
    return out


def _wing(distance: float, scale: float, side: int) -> Float[np.ndarray, "side"]:
    """Weights of the samples on one side, of which the first is `distance` zero crossings away."""
    table, step = _table(), int(scale * PER_ZERO)
    first, between = divmod(distance * PER_ZERO, 1.0)
    count = (table.size - int(first)) // step
    at = int(first) + step * np.arange(count)
    wing = np.zeros(side)
    wing[:count] = scale * (table[at] + between * (table[np.minimum(at + 1, table.size - 1)] - table[at]))
    return wing


@functools.cache
def _table() -> Float[np.ndarray, "N"]:
    """The right half of the windowed sinc."""
    size = ZEROS * PER_ZERO
    sinc = ROLLOFF * np.sinc(ROLLOFF * np.linspace(0, ZEROS, size + 1))
    return sinc * np.kaiser(2 * size + 1, BETA)[size:]
