"""Recordings a user hands over -> waveforms as the model hears them, each with a name of its content."""

import dataclasses
import hashlib
import logging
import pathlib
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from nlm_jax.audio import wave
from nlm_jax.audio.config import AudioConfig
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import NotFinite, UserError

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Clip:
    """A waveform f32[T] in [-1, 1] at 16 kHz. Samples past `length` are padding the encoder's mask leaves out."""

    wave: np.ndarray
    length: int

    @classmethod
    def of(cls, wave: np.ndarray) -> "Clip":
        return cls(wave, len(wave))


@dataclasses.dataclass(frozen=True)
class Sound:
    """A clip as the encoder is to hear it: zero-padded to `samples`, of which those past `length` are masked."""

    key: Hashable
    """Equal for equal sounds."""
    samples: int
    length: int
    read: Callable[[], np.ndarray]
    """Gives the waveform f32[T'], T' <= samples."""

    @classmethod
    def of(cls, clip: Clip, samples: int) -> "Sound":
        """Known by the digest of the waveform, its length and the length it is padded to.

        Every recording of a question comes through here on its way to the model.

        Raises:
          NotFinite: samples that are NaN or infinite.
        """
        if not np.isfinite(clip.wave).all():
            raise NotFinite("a recording holds samples that are NaN or infinite")
        content = hashlib.blake2b(np.ascontiguousarray(clip.wave, np.float32), digest_size=16).digest()
        return cls((content, clip.length, samples), samples, clip.length, lambda: clip.wave)


def array(audio: Any) -> np.ndarray:
    """A waveform f32[T] checked and clamped. Raises UserError where it is none."""
    if not hasattr(audio, "shape"):
        raise UserError(f"audio {str(audio)[:80]!r}: give an array of samples, mono at 16 kHz, or a list of them")
    audio = np.asarray(audio)
    if audio.ndim != 1 or not audio.size:
        raise UserError(f"audio array of shape {audio.shape}: give one axis of samples, mono at 16 kHz")
    return wave.prepare(audio)


def clips_of(audio: Any, cfg: AudioConfig) -> list[Clip]:
    """The clips of one query: files as the reference's processor prepares them, arrays as they are.

    Args:
      audio: a path, an array f32[T] at 16 kHz, or a list of them.
      cfg: of the checkpoint. Files are cut or zero-padded to its seconds, arrays are cut.

    Raises:
      UserError: a file that cannot be read, an array of another shape.
    """
    if isinstance(audio, list | tuple):
        return [clip for one in audio for clip in clips_of(one, cfg)]
    if isinstance(audio, str | pathlib.Path):
        # The reference pads with silence and masks nothing.
        found = wave.load(audio, seconds=cfg.seconds, quality=cfg.quality)
        return [Clip(wave.fit(found, cfg.samples), cfg.samples)]
    found = array(audio)
    if len(found) > cfg.samples:
        seconds = len(found) / SAMPLE_RATE
        log.warning("an array of %.1f s is cut at %g s; `generate_windows` hears all of it", seconds, cfg.seconds)
    return [Clip.of(found[: cfg.samples])]
