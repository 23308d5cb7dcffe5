"""Log-mel power for pictures and simple baselines. The features of the encoder are in `fbank`."""

import functools

import librosa
import numpy as np
from jaxtyping import Float

from nlm_jax.core.dims import SAMPLE_RATE

BANDS, N_FFT, HOP = 64, 512, 160
FLOOR = 1e-8


@functools.cache
def mel_filters() -> Float[np.ndarray, "bands bins"]:
    """The 64 triangles, cached: librosa computes them again at each call of `melspectrogram`."""
    return librosa.filters.mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=BANDS, fmin=20.0, htk=True)


def log_mel(wave: Float[np.ndarray, "T"]) -> Float[np.ndarray, "frames bands"]:
    """log10 mel power of a waveform at 16 kHz, 64 bands, one row per 10 ms; a clip shorter than a frame is padded."""
    wave = np.pad(wave, (0, max(0, N_FFT - len(wave))))
    power = np.abs(librosa.stft(wave, n_fft=N_FFT, hop_length=HOP, center=False)) ** 2
    return np.log10((mel_filters() @ power).T + FLOOR)
