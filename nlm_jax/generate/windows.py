"""Recordings of any length, in windows: only the window that is being heard is decoded."""

import dataclasses
import pathlib
from collections.abc import Iterator

import numpy as np

from nlm_jax.audio import wave
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError

CLIP_SECONDS = 10.0
"""What the model was trained on: files are cut or zero-padded to it, as by the reference's processor."""
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".opus")


@dataclasses.dataclass(frozen=True)
class Window:
    """Part of a recording, in seconds from its start. `end` is past the recording's end in a last, partial window."""

    file: pathlib.Path
    start: float
    end: float

    def wave(self) -> np.ndarray:
        """Its audio f32[T], zero-padded to the window's length (as training pads short clips)."""
        samples = round((self.end - self.start) * SAMPLE_RATE)
        return wave.fit(wave.load(self.file, self.start, self.end - self.start), samples)


def spans(seconds: float, window: float, hop: float) -> list[tuple[float, float]]:
    """(start, end) of the windows over a recording of `seconds`: a hop apart until all of it has been heard.

    The reference leaves out the part behind the last full window; here a last window that reaches beyond the end hears
    it, unless what is left is too short to be new (under a hundredth of a second).

    Raises:
      UserError: a window outside 0.5 to 10 s, a hop that is not positive or longer than the window (skipping audio).
    """
    if not 0.5 <= window <= CLIP_SECONDS:
        raise UserError(f"window={window:g}: the model hears 0.5 to {CLIP_SECONDS:g} seconds at a time")
    if not 0 < hop <= window:
        raise UserError(f"hop={hop:g}: must be above 0 and at most the window of {window:g} seconds")
    starts, at = [0.0], 1
    while starts[-1] + window < seconds - 0.01:
        starts.append(at * hop)
        at += 1
    return [(start, start + window) for start in starts]


def windows_of(file: pathlib.Path, window: float, hop: float) -> Iterator[Window]:
    """The windows of one recording, from its header alone.

    Raises:
      UserError: no such file, not audio, or no sample in it.
    """
    seconds = wave.info(file).seconds
    if not seconds:
        raise UserError(f"{file}: holds no audio samples; record or export it again")
    for start, end in spans(seconds, window, hop):
        yield Window(file, start, end)


def recordings(path: pathlib.Path) -> list[pathlib.Path]:
    """The file itself, or every audio file below a folder, sorted.

    Raises:
      UserError: nothing there.
    """
    if path.is_dir():
        found = sorted(f for f in path.rglob("*") if f.suffix.lower() in AUDIO_SUFFIXES and f.is_file())
        if not found:
            raise UserError(f"{path}: no recordings below it; looked for {', '.join(AUDIO_SUFFIXES)}")
        return found
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder")
    return [path]
