"""The audio that a name of an annotation stands for: a file below the audio root, a row of a dataset
(`shard.parquet#row=12`), a member of a tar (`shard.tar#member=x.flac`), or a part of one of these (`#t=1.5,3` behind).
"""

import functools
import json
import math
import pathlib
import re
from typing import Any

import numpy as np
from jaxtyping import Float

from nlm_jax.audio import wave
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError
from nlm_jax.data import arrow, tars
from nlm_jax.data.schema import part_of

ROW = re.compile(r"(.+\.(?:parquet|arrow))#row=(\d+)")
MEMBER = re.compile(r"(.+\.tar)#member=(.+)", re.DOTALL)
RATES = ("sampling_rate", "sample_rate")
"""Columns, and keys of metadata, that give the rate of bare samples."""


def name_of(file: pathlib.Path, root: pathlib.Path) -> str:
    """How examples call a file: relative to the audio root where it lies below, absolute elsewhere."""
    return (file.relative_to(root) if file.is_relative_to(root) else file.resolve()).as_posix()


def row_name(file: str, row: int) -> str:
    """Name of the audio in a row of a Parquet or Arrow file; rows count from 0."""
    return f"{file}#row={row}"


def member_name(file: str, member: str) -> str:
    """Name of a recording inside a tar."""
    return f"{file}#member={member}"


def load(
    root: pathlib.Path, name: str, seconds: float | None = None, quality: wave.Quality = "HQ"
) -> tuple[Float[np.ndarray, "T"], bool]:
    """f32[T] at 16 kHz, at most `seconds` of it, and whether something was cut off for that.

    Raises:
      UserError: as `wave.load`, a part that ends before it starts, or nothing of that name in its container.
    """
    whole, start, length = name, 0.0, math.inf
    if (part := part_of(name)) and not (root / name).is_file():
        whole, start, end = part
        length = end - start
        if not length:
            raise UserError(f"{name}: marks a point in time; give it an end, or cut recordings with --window SECONDS")
    kept = min(length, seconds or math.inf)
    audio, rate = stored(root, whole)
    bound = kept if kept < math.inf else None
    made = decoded(audio, rate, whole, start, bound, quality)
    if part and whole != name:
        return made, kept < length
    return made, bool(seconds) and duration(audio, rate) > seconds + 0.01


def stored(root: pathlib.Path, name: str) -> tuple[Any, int]:
    """What a whole recording is stored as (a path, the bytes of a file, or an array), and the rate of an array in Hz.

    Raises:
      UserError: no such container, row or member, or a row without audio.
    """
    if (match := ROW.fullmatch(name)) and not (root / name).is_file():
        return _row(root / match[1], int(match[2]), name)
    if (match := MEMBER.fullmatch(name)) and not (root / name).is_file():
        return tars.read(root / match[1], match[2]), SAMPLE_RATE
    return root / name, SAMPLE_RATE


def _row(file: pathlib.Path, number: int, name: str) -> tuple[Any, int]:
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    column, others, said = _layout(file, file.stat().st_mtime_ns)
    cells = arrow.row(file, number, [column, *others])
    audio, rate = cells.pop(column), None
    if isinstance(audio, dict):
        rate = audio.get("sampling_rate")
        data, path = audio.get("bytes"), audio.get("path")
        if data is None and audio.get("array") is None and path:
            return file.parent / path, SAMPLE_RATE
        audio = data if data is not None else audio.get("array")
    if isinstance(audio, str):
        return file.parent / audio, SAMPLE_RATE
    if audio is None:
        raise UserError(f"{name}: the row has no audio")
    return audio, int(rate or said or _rate(cells) or SAMPLE_RATE)


@functools.lru_cache(256)
def _layout(file: pathlib.Path, changed: int) -> tuple[str, tuple[str, ...], int | None]:
    """The column with audio, those that may give its rate, and the rate that `datasets` noted for it."""
    schema = arrow.schema(file)
    column = arrow.audio_column(file, schema)
    if column is None:
        raise UserError(f"{file}: no column with audio; it has {', '.join(schema.names)}")
    feature = arrow.features(file, schema).get(column)
    others = tuple(name for name in (*RATES, "metadata") if name in schema.names)
    return column, others, feature.get("sampling_rate") if isinstance(feature, dict) else None


def _rate(cells: dict[str, Any]) -> Any:
    """The rate that the other columns of a row give, None without any."""
    try:
        said = json.loads(cells.get("metadata") or "{}")
    except (TypeError, ValueError):
        said = {}
    every = [cells.get(key) for key in RATES] + [said.get(key) for key in RATES if isinstance(said, dict)]
    return next((rate for rate in every if isinstance(rate, int | float) and rate > 0), None)


def decoded(
    audio: Any,
    rate: int,
    name: str,
    start: float = 0.0,
    seconds: float | None = None,
    quality: wave.Quality = "HQ",
) -> Float[np.ndarray, "T"]:
    """f32[T] at 16 kHz, `seconds` from `start`, of a file, its bytes, or samples T, [T, C] or [C, T] at `rate` Hz.

    Whole numbers of 16 or 32 bits count as fractions of their full scale.

    Raises:
      UserError: as `wave.load`; the message calls it `name`.
    """
    if isinstance(audio, pathlib.Path | bytes):
        return wave.load(audio, start, seconds, quality, name if isinstance(audio, bytes) else None)
    samples = np.asarray(audio)
    if not samples.ndim:
        raise UserError(f"{name}: has no audio")
    if samples.dtype == object:
        samples = np.stack([np.asarray(row) for row in samples])
    if samples.dtype in (np.int16, np.int32):
        samples = samples / -float(np.iinfo(samples.dtype).min)
    try:
        made = wave.prepare(samples.astype(np.float32), rate, quality=quality)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    first = round(start * SAMPLE_RATE)
    made = made[first:] if seconds is None else made[first : first + round(seconds * SAMPLE_RATE)]
    if not made.size:
        raise UserError(f"{name}: has no audio after {start:.2f} s")
    return made


def seconds(root: pathlib.Path, name: str) -> float:
    """Length of a whole recording. Raises UserError as `stored`, or where its header is no audio's."""
    return duration(*stored(root, name))


def duration(audio: Any, rate: int) -> float:
    """Seconds of what is stored."""
    if isinstance(audio, pathlib.Path | bytes):
        return wave.info(audio).seconds
    return max(np.asarray(audio).shape) / rate
