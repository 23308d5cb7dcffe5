"""Changes to waveforms in training: noise at a given signal-to-noise ratio, mixing, time scaling. Plain numpy."""

import numpy as np
from jaxtyping import Float


def scale_noise(clean: Float[np.ndarray, "T"], noise: Float[np.ndarray, "T"], snr_db: float) -> Float[np.ndarray, "T"]:
    """`noise` times the factor that puts it `snr_db` dB below `clean` in mean power; silent noise stays silent."""
    power = float(np.mean(np.square(noise, dtype=np.float64)))
    if power == 0.0:
        return noise
    wanted = float(np.mean(np.square(clean, dtype=np.float64))) / 10.0 ** (snr_db / 10.0)
    return noise * noise.dtype.type(np.sqrt(wanted / power))


def add_noise(clean: Float[np.ndarray, "T"], noise: Float[np.ndarray, "T"], snr_db: float) -> Float[np.ndarray, "T"]:
    """Noise `snr_db` dB below the signal on top of it, within [-1, 1] (see `limit`)."""
    return limit(clean + scale_noise(clean, noise, snr_db))


def mix(waves: list[Float[np.ndarray, "T"]]) -> Float[np.ndarray, "T"]:
    """The recordings heard together, within [-1, 1]."""
    return limit(np.sum(waves, axis=0, dtype=np.float32))


def limit(wave: Float[np.ndarray, "T"]) -> Float[np.ndarray, "T"]:
    """Turned down as a whole where a peak exceeds 1: clipping would distort what the answer is about."""
    peak = float(np.abs(wave).max(initial=0.0))
    return wave / wave.dtype.type(peak) if peak > 1.0 else wave


def coloured_noise(rng: np.random.Generator, samples: int) -> Float[np.ndarray, "T"]:
    """f32[T] of Gaussian noise with a spectral tilt between white and brown, root mean square 0.1."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    tilt = rng.uniform(0.0, 1.0)
    spectrum[1:] /= np.arange(1, spectrum.size) ** tilt
    spectrum[0] = 0.0
    noise = np.fft.irfft(spectrum, samples)
    return (0.1 * noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def time_scale(wave: Float[np.ndarray, "T"], factor: float, left: float) -> Float[np.ndarray, "T"]:
    """Stretches (factor > 1) or squeezes by linear interpolation, in the same number of samples.

    What has become too long is cut on both sides alike; what has become too short is padded with zeros, the share
    `left` (0 to 1) of them in front. As in the reference, pitch moves with the speed.
    """
    samples = wave.size
    length = int(samples * factor)
    at = np.minimum(np.arange(length) / factor, samples - 1)
    scaled = np.interp(at, np.arange(samples), wave).astype(wave.dtype)
    if length >= samples:
        start = (length - samples) // 2
        return scaled[start : start + samples]
    before = int(left * (samples - length))
    return np.pad(scaled, (before, samples - length - before))
