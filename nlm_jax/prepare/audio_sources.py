"""The audio that a name in an annotation refers to: a file below the audio root, a row of a dataset
(`shard.parquet#row=12`), or a member of a tar (`shard.tar#member=x.flac`). With the suffix `#channel=2` the name stands
for one channel, with a further `#t=1.5,3` for a part.
"""

import dataclasses
import hashlib
import json
import math
import pathlib
import re
from typing import Any

import numpy as np
from jaxtyping import Float

from nlm_jax.audio import scale, wave
from nlm_jax.audio.resample import Quality
from nlm_jax.core import arrow
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import CHANNEL, CONTAINED, part_of, past_end_fault
from nlm_jax.prepare import audio_column, tars

ROW = re.compile(r"(.+\.(?:parquet|arrow))#row=(\d+)(?:&clip=([1-9]\d*))?", re.DOTALL)
MEMBER = re.compile(r"(.+\.tar)#member=(.+)", re.DOTALL)


def name_of(file: pathlib.Path, root: pathlib.Path) -> str:
    """How examples call a file: relative to the audio root where it lies below, absolute elsewhere."""
    return (file.relative_to(root) if file.is_relative_to(root) else file.resolve()).as_posix()


def row_name(file: str, row: int, clip: int = 0) -> str:
    """Name of the audio in a row of a Parquet or Arrow file; rows count from 0, several recordings of one from 1."""
    return f"{file}#row={row}&clip={clip}" if clip else f"{file}#row={row}"


def member_name(file: str, member: str) -> str:
    """Name of a recording inside a tar."""
    return f"{file}#member={member}"


def channel_name(name: str, channel: int) -> str:
    """Name of one channel of a recording; channels count from 1."""
    return f"{name}#channel={channel}"


@dataclasses.dataclass(frozen=True)
class Clip:
    """The selected part of a recording."""

    part: wave.Part
    cut: bool
    """Whether the recording, or the part that its name asks for, has more."""


def load(
    root: pathlib.Path, name: str, seconds: float | None = None, quality: Quality = "HQ"
) -> tuple[Float[np.ndarray, "T"], bool]:
    """f32[T] at 16 kHz of `clip`, and whether something was cut off."""
    read = clip(root, name, seconds, quality)
    return read.part.wave, read.cut


def clip(root: pathlib.Path, name: str, seconds: float | None = None, quality: wave.Quality = "HQ") -> Clip:
    """At most `seconds` of the recording of a name.

    Raises:
      UserError: as `wave.load`, a part that is none of its recording, or nothing of that name in its container.
    """
    whole, start, length = name, 0.0, math.inf
    if (timed := part_of(name)) and not _is_file(root / name):
        whole, start, end = timed
        length = end - start
        if not length:
            raise UserError(f"{name}: marks a point in time; give it an end, or cut recordings with --window SECONDS")
    bound = min(length, seconds or math.inf)
    audio, rate = stored(root, whole)
    try:
        part = _part(audio, rate, whole, start, bound if bound < math.inf else None, quality, _channel(root, whole))
    except wave.PastEnd:
        if fault := past_end_fault(start, start + length, duration(audio, rate)):
            raise UserError(f"{name}: {fault}") from None
        raise
    decoded_end = start + part.wave.size / SAMPLE_RATE
    if length < math.inf and not part.continues and (fault := past_end_fault(start, start + length, decoded_end)):
        raise UserError(f"{name}: {fault}")
    return Clip(part, part.continues and bound < length)


def _is_file(path: pathlib.Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _channel(root: pathlib.Path, name: str) -> int | None:
    """The channel that a name asks for, None for the mean of all."""
    match = CHANNEL.fullmatch(name)
    return int(match[2]) if match and not _is_file(root / name) else None


def stored(root: pathlib.Path, name: str) -> tuple[Any, int]:
    """Storage of a whole recording (a path, the bytes of a file, or an array), and the rate of an array in Hz.
    A name of one channel stands for the recording with all of them.

    Raises:
      UserError: no such container, row or member, or a row without audio.
    """
    if _is_file(root / name):
        return root / name, SAMPLE_RATE
    if match := CHANNEL.fullmatch(name):
        return stored(root, match[1])
    if match := ROW.fullmatch(name):
        return _row(root / match[1], int(match[2]), int(match[3] or 0), name)
    if match := MEMBER.fullmatch(name):
        return tars.read(root / match[1], match[2]), SAMPLE_RATE
    return root / name, SAMPLE_RATE


def _row(file: pathlib.Path, number: int, clip: int, name: str) -> tuple[Any, int]:
    column = audio_column.of(file)
    if column is None:
        raise UserError(f"{file}: no column with audio; it has {', '.join(arrow.schema(file).names)}")
    cells = arrow.row(file, number, [column.name, *column.others])
    audio = _chosen(cells.pop(column.name), column, clip, name)
    rate = column.rate or _rate(cells)
    if isinstance(audio, dict):
        rate = _hertz(audio.get("sampling_rate")) or rate
        audio = next((audio[key] for key in ("bytes", "array", "path") if audio.get(key) is not None), None)
    if isinstance(audio, str) and audio.strip():
        return file.parent / audio, SAMPLE_RATE
    if audio is None or isinstance(audio, str):
        raise UserError(f"{name}: the row has no audio")
    if isinstance(audio, bytes):
        return audio, SAMPLE_RATE
    return _samples(audio, name, audio_column.bounds(file)), rate or SAMPLE_RATE


def _chosen(cell: Any, column: audio_column.AudioColumn, clip: int, name: str) -> Any:
    """The recording number `clip` of a cell, or the only one (0)."""
    if column.form == "one" or cell is None or (column.form == "arrays" and not clip):
        return cell
    if not clip and len(cell) > 1:
        raise UserError(f"{name}: the row has {len(cell)} recordings; name one of them, as in {name}&clip=1")
    if not len(cell) >= max(1, clip):
        raise UserError(f"{name}: the row has {len(cell)} recordings")
    return cell[max(0, clip - 1)]


def _rate(cells: dict[str, Any]) -> int | None:
    """The rate that the other columns of a row give, None without any."""
    try:
        metadata = json.loads(cells.get("metadata") or "{}")
    except (TypeError, ValueError):
        metadata = cells.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    every = [_hertz(source.get(key)) for source in (cells, metadata) for key in audio_column.RATES]
    return next(filter(None, every), None)


def _hertz(value: Any) -> int | None:
    """A rate as a whole number, None for what is none."""
    try:
        rate = float(value)
    except (TypeError, ValueError):
        return None
    return round(rate) if 1.0 <= rate < 1e9 and not isinstance(value, bool) else None


def decoded(
    audio: Any,
    rate: int,
    name: str,
    start: float = 0.0,
    seconds: float | None = None,
    quality: Quality = "HQ",
) -> Float[np.ndarray, "T"]:
    """f32[T] at 16 kHz, `seconds` from `start`, of a file, its bytes, or samples T, [T, C] or [C, T] at `rate` Hz.

    Integers count as fractions of their full scale, see `scale.floats`.

    Raises:
      UserError: as `wave.load`, or samples that are no numbers or at no scale; the message calls it `name`.
    """
    return _part(audio, rate, name, start, seconds, quality).wave


def _part(
    audio: Any,
    rate: int,
    name: str,
    start: float,
    seconds: float | None,
    quality: wave.Quality,
    channel: int | None = None,
) -> wave.Part:
    """The same with what is to be known of it; one channel of it, if that is given."""
    if isinstance(audio, pathlib.Path | bytes):
        return wave.part(audio, start, seconds, quality, name if isinstance(audio, bytes) else None, channel)
    samples = _samples(audio, name).astype(np.float32)
    try:
        if channel is not None:
            samples = _one_channel(samples, channel)
        whole = wave.prepare(samples, rate, quality=quality)
    except UserError as error:
        raise UserError(f"{name}: {str(error).removeprefix(f'{name}: ')}") from error
    first = round(start * SAMPLE_RATE)
    end = whole.size if seconds is None else first + round(seconds * SAMPLE_RATE)
    if not whole[first:end].size:
        raise wave.PastEnd(f"{name}: has no audio after {start:.2f} s")
    mono = samples.mean(axis=int(np.argmin(samples.shape))) if samples.ndim == 2 else samples
    return wave.Part(whole[first:end], rate, whole.size - end > wave.REST, *wave.powers(mono, rate, whole), "")


def _one_channel(samples: np.ndarray, channel: int) -> np.ndarray:
    axis = int(np.argmin(samples.shape))
    count = samples.shape[axis] if samples.ndim == 2 else 1
    if channel > count:
        raise UserError(f"has {count} channel{'s' * (count > 1)}, no channel {channel}")
    return samples.take(channel - 1, axis) if samples.ndim == 2 else samples


def _samples(audio: Any, name: str, bounds: scale.Bounds | None = None) -> np.ndarray:
    """Samples as floats at full scale 1: of an array, of numbers, or of lists of them, all of one length."""
    if isinstance(audio, list | tuple) and audio and all(isinstance(one, np.ndarray) for one in audio):
        if len({one.shape for one in audio}) > 1:
            raise UserError(f"{name}: has arrays of {len(audio)} different lengths, which are no channels")
        audio = np.stack(audio)
    try:
        samples = np.asarray(audio)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: has audio that is no list of numbers ({error})") from error
    if samples.dtype.kind == "O" or not samples.ndim:
        raise UserError(f"{name}: has audio that is no list of numbers, but {type(audio).__name__}")
    if samples.dtype.kind == "f" and (bad := np.flatnonzero(~np.isfinite(samples).reshape(-1))).size:
        raise UserError(f"{name}: holds {bad.size} samples that are NaN or infinite, the first is number {bad[0]}")
    try:
        return scale.floats(samples, bounds)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def content(root: pathlib.Path, name: str) -> str:
    """Identity of recordings of which every row of a dataset has a copy: a digest of what is stored in a row or a
    tar; the name of any other recording, and of one that cannot be read."""
    if not CONTAINED.search(name) or _is_file(root / name):
        return name
    try:
        audio, rate = stored(root, name)
        if isinstance(audio, pathlib.Path):
            return name_of(audio, root)
        data = audio if isinstance(audio, bytes) else np.ascontiguousarray(audio).tobytes()
    except (UserError, OSError, ValueError, TypeError, RuntimeError, MemoryError):
        return name  # is rejected when it is converted
    return hashlib.sha256(data, usedforsecurity=False).hexdigest() + f"@{rate}"


def seconds(root: pathlib.Path, name: str) -> float:
    """True length of a whole recording. Raises UserError as `clip`."""
    try:
        return duration(*stored(root, name))
    except UserError:
        raise
    except (OSError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise UserError(f"{name}: cannot be decoded ({type(error).__name__}: {error})") from error


def duration(audio: Any, rate: int) -> float:
    """Seconds of what is stored."""
    if isinstance(audio, pathlib.Path | bytes):
        return wave.info(audio).seconds
    return max(np.asarray(audio).shape) / rate
