"""Audio fingerprints: 64 bits a frame of 32 ms that stay nearly the same through gain, codecs, resampling and shifts.

As in Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System" (ISMIR 2002), a bit is the sign of how the
energy difference of two neighbouring bands changes over time, of energies over half a second. Here the low half word
sees 200 to 3600 Hz, which survives 8 kHz material, and the high one 1500 to 7400 Hz, where many animals are.
"""

import functools

import numpy as np
import scipy.fft
import scipy.ndimage
from jaxtyping import Float, UInt64

from nlm_jax.core.dims import SAMPLE_RATE

VERSION = 1
"""Version of the definition below: fingerprints of different versions cannot be compared."""
WINDOW, HOP = 512, 256
"""Samples of a spectrum, and between two of them."""
SMOOTH, LAG, KEEP = 32, 16, 2
"""Spectra averaged (512 ms), spectra between the two averages compared (256 ms), and the stride."""
BANDS = ((200.0, 3600.0), (1500.0, 7400.0))
"""Hz; 33 bands each, equally wide in mel, for the low and the high 32 bits."""
FRAMES_PER_SECOND = SAMPLE_RATE / (HOP * KEEP)


def fingerprint(wave: Float[np.ndarray, "T"]) -> UInt64[np.ndarray, "F"]:
    """u64[F] of f32[T] at 16 kHz, `F = ceil(T / 512)`; a half word of 0 means that there is no energy to compare."""
    frames = -(-wave.size // (HOP * KEEP))
    before = (SMOOTH + LAG) // 2 * HOP
    spectra = frames * KEEP + SMOOTH + LAG
    padded = np.zeros((spectra - 1) * HOP + WINDOW, np.float32)
    padded[before : before + wave.size] = wave
    pieces = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * _taper()
    power = np.square(np.abs(scipy.fft.rfft(pieces, axis=1, overwrite_x=True)))
    smooth = scipy.ndimage.convolve1d(power @ _bands(), _smoothing(), axis=0, mode="constant")
    centre = SMOOTH // 2
    earlier = smooth[centre:][: frames * KEEP : KEEP]
    later = smooth[centre + LAG :][: frames * KEEP : KEEP]
    change = later - earlier
    change[np.abs(change) <= 1e-5 * np.maximum(earlier, later)] = 0.0  # a steady tone: what is left is rounding
    words = np.zeros(frames, np.uint64)
    for half in range(len(BANDS)):
        bands = change[:, 33 * half : 33 * half + 33]
        bits = np.packbits(bands[:, :-1] > bands[:, 1:], axis=1).view(">u4")[:, 0].astype(np.uint64)
        words |= bits << np.uint64(32 * half)
    return words


@functools.cache
def _taper() -> np.ndarray:
    return np.hanning(WINDOW + 1)[:WINDOW].astype(np.float32)


@functools.cache
def _smoothing() -> np.ndarray:
    taper = np.hanning(SMOOTH + 2)[1:-1].astype(np.float32)
    return taper / taper.sum()


@functools.cache
def _bands() -> Float[np.ndarray, "257 66"]:
    """Triangles over the bins of a spectrum, a column a band."""
    bins = np.arange(WINDOW // 2 + 1) * SAMPLE_RATE / WINDOW
    columns = []
    for low, high in BANDS:
        mels = np.linspace(*(2595 * np.log10(1 + hz / 700) for hz in (low, high)), 35)
        edges = 700 * (10 ** (mels / 2595) - 1)
        for a, b, c in zip(edges, edges[1:], edges[2:], strict=False):
            column = np.maximum(0, np.minimum((bins - a) / (b - a), (c - bins) / (c - b)))
            if not column.any():  # a band narrower than a bin
                column[np.argmin(np.abs(bins - b))] = 1
            columns.append(column)
    return np.stack(columns, axis=1).astype(np.float32)
