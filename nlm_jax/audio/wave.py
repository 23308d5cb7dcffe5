"""Audio files and arrays to mono float32 at 16 kHz.

Order as in the reference's processor: decode, average the channels, resample, cut, zero-pad, clamp to [-1, 1]. The
reference resamples with resampy's Kaiser filter, this with soxr: the two agree below the transition band (measured in
tests/data/test_wave.py), and audio that is at 16 kHz already agrees exactly.
"""

import contextlib
import dataclasses
import io
import math
import pathlib
import threading
from collections.abc import Iterator
from typing import Literal

import numpy as np
import soundfile
import soxr
from jaxtyping import Float

from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError

Quality = Literal["QQ", "LQ", "MQ", "HQ", "VHQ"]
Source = str | pathlib.Path | bytes
CONTEXT_SECONDS = 0.1  # decoded on either side of a part, longer than any soxr filter, so that cutting leaves no edge


@dataclasses.dataclass(frozen=True)
class AudioInfo:
    """What the header says."""

    rate: int
    """Hz."""
    channels: int
    frames: int
    """Samples per channel at `rate`."""

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


def info(source: Source, name: str | None = None) -> AudioInfo:
    """Rate, channels and length of a file (or of its bytes) without decoding it. Errors as in `load`."""
    with Recording(source, name) as recording:
        return recording.info


def load(
    source: Source,
    start: float = 0.0,
    seconds: float | None = None,
    quality: Quality = "HQ",
    name: str | None = None,
) -> Float[np.ndarray, "T"]:
    """Mono float32 at 16 kHz in [-1, 1] from a wav, flac, ogg or mp3 file (or its bytes), any rate and channel count.

    Args:
      source: path, or the bytes of a file; errors then call it `name`.
      start: where the part begins, in seconds; only the part is decoded.
      seconds: its length; None = to the end. A shorter recording gives a shorter array (see `fit`).

    Raises:
      UserError: no such file, not audio, no samples in the part, or samples that are not finite.
    """
    if isinstance(source, bytes) or not hasattr(_kept, "open"):
        with Recording(source, name) as recording:
            return recording.part(start, seconds, quality)
    if str(source) not in _kept.open:
        _close_kept()
        _kept.open[str(source)] = Recording(source, name)
    return _kept.open[str(source)].part(start, seconds, quality)


_kept = threading.local()


@contextlib.contextmanager
def keeping_open() -> Iterator[None]:
    """Inside, `load` keeps the last file open in this thread, as a `Recording` for who takes its parts one by one."""
    _kept.open = {}
    try:
        yield
    finally:
        _close_kept()
        del _kept.open


def _close_kept() -> None:
    while _kept.open:
        with _kept.open.popitem()[1]:
            pass


class Recording:
    """A file (or its bytes) that stays open while parts of it are taken, one after the other.

    Parts in order cost the same wherever they lie. (An MP3 has no index: to find the first part of one that has just
    been opened, all frames before it are walked through.)
    """

    def __init__(self, source: Source, name: str | None = None):
        """Errors as in `load`; they call bytes by `name`."""
        self._label = _name(source, name)
        self._file = _open(source, self._label)

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    @property
    def info(self) -> AudioInfo:
        return AudioInfo(self._file.samplerate, self._file.channels, self._file.frames)

    def part(self, start: float = 0.0, seconds: float | None = None, quality: Quality = "HQ") -> Float[np.ndarray, "T"]:
        """What `load` gives of the same part."""
        label, file = self._label, self._file
        rate = file.samplerate
        # The part starts on a sample of both rates, so that the resampled grid is that of the whole file.
        first = round(start * SAMPLE_RATE)
        step = rate // math.gcd(rate, SAMPLE_RATE)
        begin = max(0, (first * rate // SAMPLE_RATE - math.ceil(CONTEXT_SECONDS * rate)) // step * step)
        skip = first - begin * SAMPLE_RATE // rate
        count = -1
        if seconds is not None:
            count = math.ceil((skip / SAMPLE_RATE + seconds + CONTEXT_SECONDS) * rate)
        if begin and begin >= file.frames:
            raise UserError(f"{label}: has {file.frames / rate:.2f} s, nothing at {start:.2f} s")
        try:
            if file.tell() != begin:
                file.seek(begin)
            samples = file.read(count, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise UserError(f"{label}: damaged audio ({_reason(error)}); convert or replace the file") from error
        wave = resample(_checked(samples, label).mean(axis=1), rate, quality)
        wave = wave[skip:] if seconds is None else wave[skip : skip + round(seconds * SAMPLE_RATE)]
        if not wave.size:
            raise UserError(f"{label}: has no audio after {start:.2f} s")
        return np.clip(wave, -1.0, 1.0)


def prepare(
    audio: np.ndarray, rate: int = SAMPLE_RATE, samples: int | None = None, quality: Quality = "HQ"
) -> np.ndarray:
    """The same for an array: T or any of [T, C], [C, T] (the shorter axis is the channels) -> f32[samples or T'].

    Raises:
      UserError: more than two axes, no samples, or samples that are not finite.
    """
    audio = np.asarray(audio)
    if audio.ndim not in (1, 2):
        raise UserError(
            f"audio array of shape {audio.shape}: expected one axis, or two of which the shorter is channels"
        )
    check_floats(audio)
    audio = _checked(audio, "audio array")
    if audio.ndim == 2:
        audio = audio.mean(axis=int(np.argmin(audio.shape)))
    wave = resample(audio.astype(np.float32), rate, quality)
    if samples is not None:
        wave = fit(wave, samples)
    return np.clip(wave, -1.0, 1.0)


def check_floats(audio) -> None:
    """Raises UserError unless an array (of numpy or jax) holds real floats: full scale of integers differs by type."""
    if audio.dtype.kind in "iu":
        raise UserError(
            f"audio array of {audio.dtype}: expected floats in [-1, 1]; divide integers by their full scale"
        )
    if audio.dtype.kind not in "fV":  # V: bfloat16
        raise UserError(f"audio array of {audio.dtype}: expected floats in [-1, 1]")


def resample(wave: Float[np.ndarray, "T"], rate: int, quality: Quality = "HQ") -> Float[np.ndarray, "T2"]:
    """f32[T] at `rate` Hz to 16 kHz: floor(T * 16000 / rate) samples (at least one), as resampy counts them."""
    if rate == SAMPLE_RATE:
        return wave.astype(np.float32)
    length = max(1, wave.size * SAMPLE_RATE // rate)
    out = soxr.resample(wave.astype(np.float32), rate, SAMPLE_RATE, quality=quality)
    return fit(out, length)


def fit(wave: Float[np.ndarray, "T"], samples: int, start: int = 0) -> Float[np.ndarray, "T2"]:
    """`samples` samples from `start`, zero-padded at the end."""
    part = wave[start : start + samples]
    return np.pad(part, (0, samples - part.size)) if part.size < samples else part


def _open(source: Source, label: str) -> soundfile.SoundFile:
    if not isinstance(source, bytes):
        path = pathlib.Path(source)
        try:
            if not path.is_file():
                raise UserError(f"{label}: no such file" if not path.exists() else f"{label}: not a file")
        except OSError as error:  # a name too long, a folder that may not be entered
            raise UserError(f"{label[:200]}: no such file ({error.strerror})") from error
        if not path.stat().st_size:
            raise UserError(f"{label}: the file is empty")
    try:
        return soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else str(source))
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:  # TypeError: .raw without parameters
        raise UserError(f"{label}: not readable audio ({_reason(error)}); wav, flac, ogg and mp3 are") from error


def _checked(samples: np.ndarray, label: str) -> np.ndarray:
    if not samples.size:
        raise UserError(f"{label}: holds no audio samples")
    if not np.isfinite(samples).all():
        raise UserError(f"{label}: holds samples that are NaN or infinite")
    return samples


def _name(source: Source, name: str | None) -> str:
    return name or ("audio bytes" if isinstance(source, bytes) else str(source))


def _reason(error: Exception) -> str:
    return getattr(error, "error_string", None) or str(error).splitlines()[0]
