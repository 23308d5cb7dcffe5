"""Audio files and arrays to mono float32 at 16 kHz.

Order as in the reference's processor: decode, average the channels, resample, cut, zero-pad, clamp to [-1, 1].
"""

import contextlib
import functools
import math
import pathlib
import threading
from collections.abc import Iterator

import numpy as np
import soundfile
from jaxtyping import Float

from nlm_jax.audio.content import content
from nlm_jax.audio.parts import AudioInfo, Part, PastEnd, powers
from nlm_jax.audio.resample import Quality, resample
from nlm_jax.audio.scale import Level, check_loudest
from nlm_jax.audio.storage import Data, opened, stamp
from nlm_jax.audio.stream import Stream, check_rate
from nlm_jax.audio.track import reason
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import NotFinite, UserError
from nlm_jax.core.files import printable

Source = str | pathlib.Path | bytes
CONTEXT_SECONDS = 0.1
CONTEXT_SAMPLES = 128
"""Minimum context decoded on both sides of a part: longer than any filter of `resample`, so parts have no edges."""
MIN_SAMPLES = 16
"""Samples at 16 kHz (1 ms) that a recording must have."""
REST = 160
"""Samples at 16 kHz (10 ms) after a part from which the recording counts as continuing."""


def info(source: Source, name: str | None = None) -> AudioInfo:
    """Rate, channels and true length of a file (or of its bytes), which is decoded only if its header is not reliable.

    Errors as in `load`.
    """
    if not isinstance(source, bytes) and (version := stamp(source)):
        return _info(str(source), version)
    with Recording(source, name) as recording:
        return recording.info


@functools.lru_cache(1 << 14)
def _info(path: str, _stamp: tuple[int, int]) -> AudioInfo:
    with Recording(path) as recording:
        return recording.info


def load(
    source: Source,
    start: float = 0.0,
    seconds: float | None = None,
    quality: Quality = "HQ",
    name: str | None = None,
    channel: int | None = None,
) -> Float[np.ndarray, "T"]:
    """Mono float32 at 16 kHz in [-1, 1] from a file that libsndfile reads (or its bytes), any rate and channel count.

    Args:
      source: path, or the bytes of a file.
      start: of the part to decode, in seconds.
      seconds: its length; None = to the end. A shorter recording gives a shorter array (see `fit`).
      quality: filter of the resampling.
      name: of the bytes, for errors.
      channel: from 1; None = the mean of all channels.

    Raises:
      PastEnd: the recording ends before `start`.
      UserError: no such file, not audio, no samples, or samples that are not finite or not scaled to [-1, 1].
    """
    return part(source, start, seconds, quality, name, channel).wave


def part(
    source: Source,
    start: float = 0.0,
    seconds: float | None = None,
    quality: Quality = "HQ",
    name: str | None = None,
    channel: int | None = None,
) -> Part:
    """As `load`, with the properties of the part."""
    if isinstance(source, bytes) or not hasattr(_cached, "open"):
        with Recording(source, name) as recording:
            return recording.part(start, seconds, quality, channel)
    if str(source) not in _cached.open:
        _close_cached()
        _cached.open[str(source)] = Recording(source, name)
    return _cached.open[str(source)].part(start, seconds, quality, channel)


_cached = threading.local()


@contextlib.contextmanager
def keeping_open() -> Iterator[None]:
    """Within, `load` and `part` keep the last file of this thread open, so that reading it part by part is fast."""
    _cached.open = {}
    try:
        yield
    finally:
        _close_cached()
        del _cached.open


def _close_cached() -> None:
    while _cached.open:
        with _cached.open.popitem()[1]:
            pass


class Recording:
    """A file (or its bytes) that stays open while parts of it are read.

    Consecutive parts cost the same anywhere in the file. (An MP3 has no index: to find the first part after opening,
    the headers of all frames before it are read.)
    """

    def __init__(self, source: Source, name: str | None = None):
        """Errors as in `load`; `name` is that of bytes in errors."""
        self._label = printable(name or ("audio bytes" if isinstance(source, bytes) else source))
        self._data = opened(source, self._label)
        self._scale_checked = False
        try:
            self._stream = Stream(self._data)
        except (
            soundfile.SoundFileError,
            RuntimeError,
            TypeError,
            OSError,
        ) as error:  # TypeError: .raw lacks parameters
            why = content(self._data) or reason(error, "the content is of no known format")
            self._data.close()
            raise UserError(f"{self._label}: not readable audio ({why}); wav, flac, ogg and mp3 are") from error
        except UserError as error:
            self._data.close()
            raise UserError(f"{self._label}: {error}") from error

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, *_) -> None:
        self._stream.close()
        self._data.close()

    @property
    def info(self) -> AudioInfo:
        """Rate, channels and true length; see `info`."""
        frames = self._stream.length()
        return AudioInfo(self._stream.rate, self._stream.channels, frames, self._stream.notice)

    def part(
        self, start: float = 0.0, seconds: float | None = None, quality: Quality = "HQ", channel: int | None = None
    ) -> Part:
        """As the function `part`, of this file."""
        label, stream = self._label, self._stream
        rate = stream.rate
        # The part starts on a sample of both rates, so that the resampled grid is that of the whole file.
        first = round(start * SAMPLE_RATE)
        context = max(CONTEXT_SECONDS, CONTEXT_SAMPLES / rate)
        step = rate // math.gcd(rate, SAMPLE_RATE)
        begin = max(0, (first * rate // SAMPLE_RATE - math.ceil(context * rate)) // step * step)
        skip, count = first - begin * SAMPLE_RATE // rate, None
        if seconds is not None:
            count = math.ceil((skip / SAMPLE_RATE + seconds + context) * rate)
        try:
            self._check_scale()
            samples = stream.read(begin, count, channel)
        except UserError as error:
            raise type(error)(f"{label}: {error}") from error
        if not samples.size:
            if begin:
                raise PastEnd(f"{label}: has {stream.length() / rate:.2f} s, nothing at {start:.2f} s")
            raise UserError(f"{label}: holds no audio samples; record or export it again")
        resampled = resample(samples, rate, quality)
        end = resampled.size if seconds is None else skip + round(seconds * SAMPLE_RATE)
        wave = resampled[skip:end]
        if not wave.size:
            raise PastEnd(f"{label}: has no audio after {start:.2f} s")
        if len(resampled) < MIN_SAMPLES:
            raise UserError(f"{label}: holds only {len(samples)} samples, less than a millisecond")
        if not np.isfinite(wave).all():
            raise NotFinite(f"{label}: holds samples too large for a mean or a filter; divide them by their full scale")
        continues = resampled.size - end > REST
        return Part(np.clip(wave, -1.0, 1.0), rate, continues, *powers(samples, rate, resampled), stream.notice)

    def _check_scale(self) -> None:
        """UserError if floats are not scaled to [-1, 1]. The whole file is checked, once: a quiet part may pass."""
        if self._stream.floats and not self._scale_checked:
            path = self._data.path
            version = None if path is None else stamp(path)
            fault = _fault(str(path), version) if version else _fault_of(self._stream)
            if fault:
                raise UserError(fault)
        self._scale_checked = True


@functools.lru_cache(1 << 12)
def _fault(path: str, _stamp: tuple[int, int]) -> str:
    with contextlib.closing(Data(pathlib.Path(path))) as source, contextlib.closing(Stream(source)) as stream:
        return _fault_of(stream)


def _fault_of(stream: Stream) -> str:
    level = Level()
    for block in stream.blocks(0, None, None):
        level.add(block)
    return level.fault()


def prepare(
    audio: np.ndarray, rate: int = SAMPLE_RATE, samples: int | None = None, quality: Quality = "HQ"
) -> np.ndarray:
    """As `load`, for an array: f32[T'] at 16 kHz in [-1, 1].

    Args:
      audio: [T], [T, C] or [C, T]; of two axes, the shorter is the channels.
      rate: in Hz.
      samples: length of the result, cut or zero-padded; None = as it is.
      quality: filter of the resampling.

    Raises:
      UserError: more than two axes, no samples, or samples that are not finite or far beyond [-1, 1].
    """
    audio = np.asarray(audio)
    if audio.ndim not in (1, 2):
        raise UserError(
            f"audio array of shape {audio.shape}: expected one axis, or two of which the shorter is channels"
        )
    check_floats(audio)
    check_rate(rate)
    audio = _checked(audio, "audio array")
    check_loudest("audio array", float(np.abs(audio).max()))
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


def fit(wave: Float[np.ndarray, "T"], samples: int, start: int = 0) -> Float[np.ndarray, "T2"]:
    """`samples` samples from `start`, zero-padded at the end."""
    part = wave[start : start + samples]
    return np.pad(part, (0, samples - part.size)) if part.size < samples else part


def _checked(samples: np.ndarray, label: str) -> np.ndarray:
    if not samples.size:
        raise UserError(f"{label}: holds no audio samples")
    if not np.isfinite(samples).all():
        raise NotFinite(f"{label}: holds samples that are NaN or infinite")
    return samples
