"""Recordings of any length, in windows: only the window that is being heard is decoded."""

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np

from nlm_jax.audio import formats, wave
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError

CLIP_SECONDS = 10.0
"""What the model was trained on: files are cut or zero-padded to it, as by the reference's processor."""
TOO_SHORT = 0.01
"""Seconds behind the last full window that are not worth another."""


@dataclasses.dataclass(frozen=True)
class Window:
    """Part of a recording, in seconds from its start. `end` is past the recording's end in a last, partial window."""

    file: pathlib.Path
    start: float
    end: float

    def wave(self, recording: wave.Recording | None = None) -> np.ndarray:
        """Its audio f32[T], zero-padded to the window's length (as training pads short clips).

        Args:
          recording: the file, where it is open already.
        """
        samples = round((self.end - self.start) * SAMPLE_RATE)
        if recording is not None:
            return wave.fit(recording.part(self.start, self.end - self.start), samples)
        return wave.fit(wave.load(self.file, self.start, self.end - self.start), samples)


def check_spans(window: float, hop: float) -> None:
    """Raises UserError: a window outside 0.5 to 10 s, or a hop that is not positive."""
    if not 0.5 <= window <= CLIP_SECONDS:
        raise UserError(f"window={window:g}: the model hears 0.5 to {CLIP_SECONDS:g} seconds at a time")
    if not 0 < hop < math.inf:
        raise UserError(f"hop={hop:g}: must be above 0 seconds")


def n_spans(seconds: float, window: float, hop: float) -> int:
    """How many windows `spans` makes."""
    count = max(1, math.ceil((seconds - TOO_SHORT - window) / hop) + 1)
    while (count - 1) * hop + window < seconds - TOO_SHORT:  # the division may be off by a rounding
        count += 1
    while count > 1 and (count - 2) * hop + window >= seconds - TOO_SHORT:
        count -= 1
    while count > 1 and (count - 1) * hop >= seconds - TOO_SHORT:  # a hop longer than the window: it leaps over the end
        count -= 1
    return count


def spans(seconds: float, window: float, hop: float) -> list[tuple[float, float]]:
    """(start, end) of the windows over a recording of `seconds`: a hop apart until all of it has been heard.

    The reference leaves out the part behind the last full window; here a last window that reaches beyond the end hears
    it, unless what is left is too short to be new (under a hundredth of a second). A hop longer than the window leaves
    out what lies between two of them.

    Raises:
      UserError: as `check_spans`.
    """
    check_spans(window, hop)
    return [(i * hop, i * hop + window) for i in range(n_spans(seconds, window, hop))]


def seconds_of(file: pathlib.Path) -> float:
    """Length of a recording, from its header alone.

    Raises:
      UserError: no such file, not audio, or no sample in it.
    """
    seconds = wave.info(file).seconds
    if not seconds:
        raise UserError(f"{file}: holds no audio samples; record or export it again")
    return seconds


def windows_of(file: pathlib.Path, window: float, hop: float, seconds: float | None = None) -> Iterator[Window]:
    """The windows of one recording, made as they are asked for; `seconds` is its length, where that is known.

    Raises:
      UserError: as `seconds_of` and `check_spans`.
    """
    check_spans(window, hop)
    for i in range(n_spans(seconds_of(file) if seconds is None else seconds, window, hop)):
        yield Window(file, i * hop, i * hop + window)


def sounds(windows: Iterable[Window]) -> Iterator[tuple[Window, np.ndarray | None, str]]:
    """(window, its audio f32[T], "") of one window after the other; (window, None, reason) of one that cannot be read.

    A recording stays open while its windows follow each other, so that a long one is not searched again for each.
    """
    for file, mine in itertools.groupby(windows, key=lambda window: window.file):
        try:
            recording = wave.Recording(file)
        except UserError as error:
            yield from ((window, None, str(error)) for window in mine)
            continue
        with recording:
            for window in mine:
                try:
                    heard, reason = window.wave(recording), ""
                except UserError as error:
                    heard, reason = None, str(error)
                yield window, heard, reason


def recordings(path: pathlib.Path, notices: list[str] | None = None) -> list[pathlib.Path]:
    """The file itself, or every recording below a folder, sorted.

    Args:
      notices: collects sentences about sound in the folder that is not read.

    Raises:
      UserError: nothing there.
    """
    if path.is_dir():
        folder = formats.Folder.of(path)
        if not folder.recordings:
            reasons = "; ".join(folder.notices) or f"looked for {', '.join(formats.READABLE)}"
            raise UserError(f"{path}: no recordings below it; {reasons}")
        if notices is not None:
            notices += [f"{path}: {notice}" for notice in folder.notices]
        return folder.recordings
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder")
    return [path]


def all_recordings(paths: Iterable[pathlib.Path], notices: list[str] | None = None) -> list[pathlib.Path]:
    """`recordings` of several paths, each file once though it be named in several ways."""
    files: dict[str, pathlib.Path] = {}
    for path in paths:
        for file in recordings(path, notices):
            files.setdefault(formats.identity(file), file)
    return list(files.values())
