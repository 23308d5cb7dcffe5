"""Augmentation of waveforms: noise, mixing, time scaling and shifts, band-stop, reverberation, gain. Plain numpy.

Waveforms within [-1, 1] stay within [-1, 1]; silence stays silence, or becomes the noise that is added.
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
    target = float(np.mean(np.square(clean, dtype=np.float64))) / 10.0 ** (snr_db / 10.0)
    return noise * noise.dtype.type(np.sqrt(target / power))


def add_noise(clean: Float[np.ndarray, "T"], noise: Float[np.ndarray, "T"], snr_db: float) -> Float[np.ndarray, "T"]:
    """The signal with noise at a signal-to-noise ratio of `snr_db` dB, within [-1, 1] (see `limit`)."""
    return limit(clean + scale_noise(clean, noise, snr_db))


def mix(waves: list[Float[np.ndarray, "T"]]) -> Float[np.ndarray, "T"]:
    """The sum of recordings, within [-1, 1] (see `limit`)."""
    return limit(np.sum(waves, axis=0, dtype=np.float32))


def limit(wave: Float[np.ndarray, "T"]) -> Float[np.ndarray, "T"]:
    """The waveform, scaled down as a whole if its peak exceeds 1: clipping would distort it."""
    peak = max(float(wave.max(initial=0.0)), -float(wave.min(initial=0.0)))  # no copy, as np.abs would make
    return wave / wave.dtype.type(peak) if peak > 1.0 else wave


def coloured_noise(rng: np.random.Generator, samples: int) -> Float[np.ndarray, "T"]:
    """f32[T] of Gaussian noise with a spectral tilt between white and brown, root mean square 0.1.

    The spectrum is drawn, which is Gaussian too: this saves a transform, and takes 16 random bits per frequency.
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
    """Quantised complex normal distribution: 256 angles at each of 256 equally likely radii."""
    radius = np.sqrt(-2.0 * np.log((np.arange(256) + 0.5) / 256))
    angle = np.exp(2j * np.pi * np.arange(256) / 256)
    return (radius[:, None] * angle).astype(np.complex64).reshape(-1)


@functools.lru_cache(8)
def _log_bins(count: int) -> Float32[np.ndarray, "F"]:
    """log 1 .. log `count`."""
    return np.log(np.arange(1, count + 1)).astype(np.float32)


def time_scale(wave: Float[np.ndarray, "T"], factor: float, left: float) -> Float[np.ndarray, "T"]:
    """Stretches (factor > 1) or squeezes by linear interpolation, in the same number of samples.

    A result that is too long is cut equally on both sides; one that is too short is padded with zeros. As in the
    reference, pitch changes with speed.

    Args:
      wave: the recording.
      factor: new length / old length.
      left: share (0 to 1) of the padding that is in front.
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
    """Delays a recording without losing any of it.

    A recording that is followed by silence moves into that silence. One that fills the clip (up to a twentieth) is
    rotated: its end comes first, and the seam is faded.

    Args:
      wave: the recording, padded with zeros.
      share: of the largest possible delay, 0 to 1.
    """
    nonzero = np.flatnonzero(wave)
    if not nonzero.size:
        return wave
    silent = wave.size - 1 - int(nonzero[-1])
    if silent * 20 >= wave.size:
        return np.roll(wave, round(share * silent))
    by = round(share * (wave.size - 1))
    rotated = np.roll(wave, by)
    fade = min(SEAM, by, wave.size - by)
    if fade:
        ramp = np.linspace(1.0, 0.0, fade, dtype=wave.dtype)
        rotated[by - fade : by] *= ramp
        rotated[by : by + fade] *= ramp[::-1]
    return rotated


def band_stop(wave: Float[np.ndarray, "T"], centre: float, octaves: float) -> Float[np.ndarray, "T"]:
    """Removes a band `octaves` wide around `centre` Hz; cosine edges of a sixth of an octave, zero phase."""
    padded = scipy.fft.next_fast_len(wave.size + SAMPLE_RATE // 10, real=True)  # ringing does not wrap around
    frequency = scipy.fft.rfftfreq(padded, 1.0 / SAMPLE_RATE)
    distance = np.abs(np.log2(np.maximum(frequency, 1e-3) / centre)) - octaves / 2.0
    response = 0.5 - 0.5 * np.cos(np.pi * np.clip(distance / EDGE, 0.0, 1.0))
    filtered = scipy.fft.irfft(scipy.fft.rfft(wave, padded) * response.astype(wave.dtype), padded)
    return limit(filtered[: wave.size])


def room(rng: np.random.Generator, seconds: float, ratio_db: float) -> Float[np.ndarray, "R"]:
    """A synthetic impulse response, f32[R]: the direct sound, then noise that decays by 60 dB in `seconds`.

    Args:
      rng: of the noise.
      seconds: reverberation time.
      ratio_db: energy of the direct sound over that of all the rest, in dB.
    """
    samples = max(2, round(seconds * SAMPLE_RATE))
    tail = rng.standard_normal(samples - 1) * 10.0 ** (-3.0 * np.arange(1, samples) / samples)
    tail *= 10.0 ** (-ratio_db / 20.0) / np.sqrt(np.sum(tail**2))
    return np.concatenate([np.ones(1), tail]).astype(np.float32)


def reverb(wave: Float[np.ndarray, "T"], response: Float[np.ndarray, "R"]) -> Float[np.ndarray, "T"]:
    """The recording convolved with an impulse response, at its level before.

    Args:
      wave: the recording.
      response: used from its peak on, which is the direct sound; a silent one changes nothing.
    """
    level = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) if wave.size else 0.0
    if level == 0.0 or not response.any():
        return wave
    direct = int(np.argmax(np.abs(response)))
    wet = scipy.signal.oaconvolve(wave, response[direct:])[: wave.size]
    after = float(np.sqrt(np.mean(np.square(wet, dtype=np.float64))))
    return limit(wet * wave.dtype.type(level / after)) if after > 0.0 else wave


def gain(wave: Float[np.ndarray, "T"], db: float) -> Float[np.ndarray, "T"]:
    """The recording amplified by `db` dB, limited to full scale (see `limit`)."""
    return limit(wave * wave.dtype.type(10.0 ** (db / 20.0)))
