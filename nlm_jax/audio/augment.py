"""Changes to waveforms in training: noise, mixing, time scaling and shifts, band-stop, rooms, gain. Plain numpy.

What comes in within [-1, 1] leaves within [-1, 1]; silence stays silence, or becomes the noise that was added.
"""

import functools

import numpy as np
import scipy.fft
import scipy.signal
from jaxtyping import Complex64, Float, Float32

from nlm_jax.core.dims import SAMPLE_RATE

EDGE = 1.0 / 6.0  # octaves over which a band-stop falls from 1 to 0
SEAM = 80  # samples (5 ms) that fade on both sides of where a rotated recording's end meets its start


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
    peak = max(float(wave.max(initial=0.0)), -float(wave.min(initial=0.0)))  # no copy, as np.abs would make
    return wave / wave.dtype.type(peak) if peak > 1.0 else wave


def coloured_noise(rng: np.random.Generator, samples: int) -> Float[np.ndarray, "T"]:
    """f32[T] of Gaussian noise with a spectral tilt between white and brown, root mean square 0.1.

    It is drawn as a spectrum, for that of Gaussian noise is Gaussian too: half the transforms, and 16 random bits for
    each frequency.
    """
    length = scipy.fft.next_fast_len(max(2, samples), real=True)
    tilt = np.float32(rng.uniform(0.0, 1.0))
    spectrum = _gaussian().take(rng.integers(0, 1 << 16, length // 2 + 1, dtype=np.uint16))
    spectrum[0] = 0.0
    spectrum[1:] *= np.exp(-tilt * _log_bins(len(spectrum) - 1))
    noise = scipy.fft.irfft(spectrum, length)[:samples]
    return noise * (0.1 / np.sqrt(np.mean(np.square(noise))))


@functools.cache
def _gaussian() -> Complex64[np.ndarray, "65536"]:
    """Complex numbers spread as those of a normal distribution are: 256 angles at each of 256 equally likely radii."""
    radius = np.sqrt(-2.0 * np.log((np.arange(256) + 0.5) / 256))
    angle = np.exp(2j * np.pi * np.arange(256) / 256)
    return (radius[:, None] * angle).astype(np.complex64).reshape(-1)


@functools.lru_cache(8)
def _log_bins(count: int) -> Float32[np.ndarray, "F"]:
    """log 1 .. log `count`."""
    return np.log(np.arange(1, count + 1)).astype(np.float32)


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


def shift(wave: Float[np.ndarray, "T"], share: float) -> Float[np.ndarray, "T"]:
    """The recording later by `share` (0 to 1) of the room there is for it; nothing of it is lost.

    A recording with silence behind it moves into that silence. One that fills the clip (to a twentieth) is rotated: its
    end comes first, and the seam is faded.
    """
    sounding = np.flatnonzero(wave)
    if not sounding.size:
        return wave
    silent = wave.size - 1 - int(sounding[-1])
    if silent * 20 >= wave.size:
        return np.roll(wave, round(share * silent))
    by = round(share * (wave.size - 1))
    turned = np.roll(wave, by)
    fade = min(SEAM, by, wave.size - by)
    if fade:
        ramp = np.linspace(1.0, 0.0, fade, dtype=wave.dtype)
        turned[by - fade : by] *= ramp
        turned[by : by + fade] *= ramp[::-1]
    return turned


def band_stop(wave: Float[np.ndarray, "T"], centre: float, octaves: float) -> Float[np.ndarray, "T"]:
    """Silences a band `octaves` wide around `centre` Hz; cosine edges of a sixth of an octave, no change of phase."""
    padded = scipy.fft.next_fast_len(wave.size + SAMPLE_RATE // 10, real=True)  # what rings past the end stays there
    frequency = scipy.fft.rfftfreq(padded, 1.0 / SAMPLE_RATE)
    away = np.abs(np.log2(np.maximum(frequency, 1e-3) / centre)) - octaves / 2.0
    passed = 0.5 - 0.5 * np.cos(np.pi * np.clip(away / EDGE, 0.0, 1.0))
    filtered = scipy.fft.irfft(scipy.fft.rfft(wave, padded) * passed.astype(wave.dtype), padded)
    return limit(filtered[: wave.size])


def room(rng: np.random.Generator, seconds: float, ratio_db: float) -> Float[np.ndarray, "R"]:
    """f32[R]: a synthetic impulse response: the direct sound, then noise that falls by 60 dB in `seconds`.

    Args:
      ratio_db: energy of the direct sound over that of all the rest, in dB.
    """
    samples = max(2, round(seconds * SAMPLE_RATE))
    tail = rng.standard_normal(samples - 1) * 10.0 ** (-3.0 * np.arange(1, samples) / samples)
    tail *= 10.0 ** (-ratio_db / 20.0) / np.sqrt(np.sum(tail**2))
    return np.concatenate([np.ones(1), tail]).astype(np.float32)


def reverb(wave: Float[np.ndarray, "T"], response: Float[np.ndarray, "R"]) -> Float[np.ndarray, "T"]:
    """The recording in a room, as loud as before: convolved with `response` from its peak, the direct sound, on.

    A silent response changes nothing.
    """
    level = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) if wave.size else 0.0
    if level == 0.0 or not response.any():
        return wave
    direct = int(np.argmax(np.abs(response)))
    wet = scipy.signal.oaconvolve(wave, response[direct:])[: wave.size]
    after = float(np.sqrt(np.mean(np.square(wet, dtype=np.float64))))
    return limit(wet * wave.dtype.type(level / after)) if after > 0.0 else wave


def gain(wave: Float[np.ndarray, "T"], db: float) -> Float[np.ndarray, "T"]:
    """Louder or softer by `db` dB, but never above full scale."""
    return limit(wave * wave.dtype.type(10.0 ** (db / 20.0)))
