"""Kaldi-compatible log-mel filter bank in JAX: batched, jit-able, on the device.

Source: torchaudio.compliance.kaldi.fbank as BEATs calls it (128 bins, 25 ms povey window, 10 ms hop, no dither,
snip_edges), then BEATs' normalisation. Everything in float32: bfloat16 errs by more than one unit of log energy.
"""

import functools
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.frames import FRAME_LENGTH, FRAME_SHIFT, MEL_BINS, n_frames
from nlm_jax.core.precision import matmul_precision

N_FFT = 512
LOW_HZ = 20.0
PREEMPHASIS = 0.97
FLOOR = float(np.finfo(np.float32).eps)
MEAN, STD = 15.41663, 6.55582
HOP = math.gcd(FRAME_LENGTH, FRAME_SHIFT)  # 80 samples: frames are made of whole chunks, so no gather is needed


def _mel(hz):
    return 1127.0 * np.log(1.0 + hz / 700.0)


@functools.cache
def mel_filterbank(bins: int = MEL_BINS) -> np.ndarray:
    """f32[bins, 256]: triangles in mel over the FFT bins 0..255 (Kaldi leaves the Nyquist bin out).

    With 128 bins the lowest triangle falls between two FFT bins and is empty; Kaldi itself refuses that, BEATs lives
    with a constant first feature.
    """
    low, high = _mel(LOW_HZ), _mel(SAMPLE_RATE / 2)
    step = (high - low) / (bins + 1)
    left = (low + np.arange(bins) * step)[:, None]
    mel = _mel(np.arange(N_FFT // 2) * SAMPLE_RATE / N_FFT)[None, :]
    up, down = (mel - left) / step, (left + 2 * step - mel) / step
    return np.maximum(0.0, np.minimum(up, down)).astype(np.float32)


@functools.cache
def povey_window() -> np.ndarray:
    """f32[400]: a symmetric Hann window to the power 0.85."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME_LENGTH) / (FRAME_LENGTH - 1))
    return (hann**0.85).astype(np.float32)


def fbank(waveform: Float[Array, "B samples"]) -> Float[Array, "B frames 128"]:
    """Normalised log-mel features, f32[B, T, 128] with T = n_frames(samples), of 16 kHz waveforms in [-1, 1].

    (x - 15.41663) / (2 * 6.55582) of `log_mel_energies`; silence gives -2.3917.
    """
    return (log_mel_energies(waveform, mel_filterbank()) - MEAN) / (2 * STD)


def log_mel_energies(
    waveform: Float[Array, "B samples"], filters: Float[np.ndarray, "bins 256"]
) -> Float[Array, "B frames bins"]:
    """Natural log of the mel energies of waveform * 2^15, with floor 2^-23."""
    count = n_frames(waveform.shape[1])
    stride, chunks_per_frame = FRAME_SHIFT // HOP, FRAME_LENGTH // HOP
    used = HOP * ((count - 1) * stride + chunks_per_frame)
    chunks = (waveform[:, :used].astype(jnp.float32) * 2.0**15).reshape(len(waveform), -1, HOP)
    parts = [chunks[:, j : j + stride * (count - 1) + 1 : stride] for j in range(chunks_per_frame)]
    frames = jnp.concatenate(parts, axis=-1)  # [B, T, 400]
    frames = frames - frames.mean(-1, keepdims=True)
    previous = jnp.concatenate([frames[..., :1], frames[..., :-1]], axis=-1)
    frames = (frames - PREEMPHASIS * previous) * povey_window()
    spectrum = jnp.fft.rfft(frames, n=N_FFT)[..., : N_FFT // 2]
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    return jnp.log(jnp.maximum(jnp.matmul(power, filters.T, precision=matmul_precision(jnp.float32)), FLOOR))
