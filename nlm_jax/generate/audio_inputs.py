"""Recordings that a user passes in -> waveforms as model input, each with a key of its content."""

import dataclasses
import hashlib
import logging
import pathlib
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from nlm_jax.audio import wave
from nlm_jax.audio.config import AudioConfig
from nlm_jax.audio.scale import check_loudest
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import NotFinite, UserError

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Clip:
    """A waveform f32[T] in [-1, 1] at 16 kHz. Samples past `length` are padding that the encoder's mask excludes."""

    wave: np.ndarray
    length: int

    @classmethod
    def of(cls, wave: np.ndarray) -> "Clip":
        """A clip without padding."""
        return cls(wave, len(wave))


@dataclasses.dataclass(frozen=True)
class Sound:
    """A clip as input of the encoder: zero-padded to `samples`, of which those past `length` are masked."""

    key: Hashable
    """Equal for equal sounds."""
    samples: int
    length: int
    read: Callable[[], np.ndarray]
    """Returns the waveform f32[T'], T' <= samples."""

    @classmethod
    def of(cls, clip: Clip, samples: int) -> "Sound":
        """A clip padded to `samples`, keyed by the digest of its waveform, its length and `samples`.

        Every recording of a query passes through here on its way to the model.

        Raises:
          NotFinite: samples that are NaN or infinite.
        """
        if not np.isfinite(clip.wave).all():
            raise NotFinite("a recording holds samples that are NaN or infinite")
        digest = hashlib.blake2b(np.ascontiguousarray(clip.wave, np.float32), digest_size=16).digest()
        return cls((digest, clip.length, samples), samples, clip.length, lambda: clip.wave)


def clips_of(audio: Any, cfg: AudioConfig) -> list[Clip]:
    """The clips of one query: files as the reference's processor prepares them, arrays unchanged.

    Args:
      audio: a path, an array f32[T] at 16 kHz, or a list of them.
      cfg: of the checkpoint. Files are cut or zero-padded to its clip length, arrays are cut.

    Raises:
      UserError: a file that cannot be read, an array of another shape.
    """
    if isinstance(audio, list | tuple):
        return [clip for entry in audio for clip in clips_of(entry, cfg)]
    if isinstance(audio, str | pathlib.Path):
        # The reference pads with silence and masks nothing.
        samples = wave.load(audio, seconds=cfg.seconds, quality=cfg.quality)
        return [Clip(wave.fit(samples, cfg.samples), cfg.samples)]
    samples = check_waveform(audio)
    if len(samples) > cfg.samples:
        seconds = len(samples) / SAMPLE_RATE
        log.warning("an array of %.1f s is cut at %g s; `generate_windows` takes all of it", seconds, cfg.seconds)
    return [Clip.of(samples[: cfg.samples])]


def check_waveform(audio: Any) -> Float[np.ndarray, "T"]:
    """A mono array, checked and clamped to [-1, 1].

    Raises:
      UserError: not an array, another shape, or samples that are not finite.
    """
    if not hasattr(audio, "shape"):
        raise UserError(f"audio {str(audio)[:80]!r}: give an array of samples, mono at 16 kHz, or a list of them")
    audio = np.asarray(audio)
    if audio.ndim != 1 or not audio.size:
        raise UserError(f"audio array of shape {audio.shape}: give one axis of samples, mono at 16 kHz")
    return wave.prepare(audio)


def check_waveforms(audio: Any, padding: Any = None) -> tuple[Float[Array, "B T"], Bool[Array, "B T"] | None]:
    """Clips of one length as one array, and their padding mask.

    Args:
      audio: f32[B, T] at 16 kHz, from numpy, jax, or a list of rows. A traced array is not checked for its values.
      padding: bool[B, T], True = padding; None = no padding.

    Raises:
      UserError: other shapes, no floats, or samples that are not finite or far above full scale.
    """
    try:
        audio = audio if hasattr(audio, "shape") else np.asarray(audio)
    except ValueError as error:  # rows of different length
        raise UserError("waveforms: rows differ in length; zero-pad them and give the padding_mask") from error
    if len(audio.shape) != 2 or not audio.shape[0]:
        raise UserError(f"waveforms of shape {tuple(audio.shape)}: give f32[B, T], one row for each clip")
    wave.check_floats(audio)
    if not isinstance(audio, jax.core.Tracer):
        samples = jnp.asarray(audio)
        if not bool(jnp.isfinite(samples).all()):  # not from the peak: a reduction by max may drop NaN on some CPUs
            raise NotFinite("waveforms: hold samples that are NaN or infinite")
        check_loudest("waveforms", float(jnp.abs(samples).max(initial=0)))
    if padding is not None:
        padding = padding if hasattr(padding, "shape") else np.asarray(padding)
        if padding.shape != audio.shape:
            raise UserError(
                f"padding_mask of shape {tuple(padding.shape)} for waveforms of {tuple(audio.shape)}: give one boolean "
                "for each sample, True if it is padding"
            )
        padding = jnp.asarray(padding, bool)
    return jnp.asarray(audio, jnp.float32), padding
