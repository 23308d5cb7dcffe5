"""Recordings of any length, in windows: one window at a time is decoded."""

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np

from nlm_jax.audio import formats, wave
from nlm_jax.audio.parts import ultrasound_notice
from nlm_jax.audio.resample import Quality
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import printable

SHORTEST = 0.5
"""Seconds of a window at least: less gives the Q-Former nothing."""
TOO_SHORT = 0.01
"""Seconds behind the last full window that are not worth another."""


@dataclasses.dataclass(frozen=True)
class Window:
    """Part of a recording, in seconds from its start. As planned, the last one may end behind the recording."""

    file: pathlib.Path
    start: float
    end: float

    def wave(self, quality: Quality = "HQ") -> np.ndarray:
        """Its audio f32[T], zero-padded to the window's length (as training pads short clips)."""
        seconds = self.end - self.start
        return wave.fit(wave.load(self.file, self.start, seconds, quality), round(seconds * SAMPLE_RATE))


@dataclasses.dataclass
class Noticed:
    """What is to be said of recordings once their windows were read."""

    unread: list[str] = dataclasses.field(default_factory=list)
    """Sentences about sound in the folders that is not read at all."""
    rates: dict[pathlib.Path, int] = dataclasses.field(default_factory=dict)
    """Hz of each."""
    notices: dict[pathlib.Path, str] = dataclasses.field(default_factory=dict)
    """Why less was read of one than there may be."""
    ultrasound: int = 0
    """Recordings with most of the energy above 8 kHz."""

    def sentences(self, shown: int = 10) -> list[str]:
        """One for each of the first recordings that are not read to their end, and one about ultrasound."""
        said = [f"{printable(file)}: {notice}" for file, notice in itertools.islice(self.notices.items(), shown)]
        if len(self.notices) > shown:
            said.append(f"{len(self.notices) - shown} more recordings are not read to their end")
        return self.unread + said + list(filter(None, [ultrasound_notice(self.ultrasound)]))


def check_spans(window: float, hop: float, longest: float = math.inf) -> None:
    """Raises UserError: a window below 0.5 s or above `longest`, a hop that is not positive.

    Args:
      longest: the checkpoint's clip length in seconds. Shorter than 0.5 s, it is the only window there is.
    """
    least = min(SHORTEST, longest)
    if not (least <= window <= longest and window < math.inf):
        limits = f"{least:g} to {longest:g}" if least < longest < math.inf else f"at least {least:g}"
        raise UserError(f"window={window:g}: the model hears {limits} seconds at a time")
    if not 0 < hop < math.inf:
        raise UserError(f"hop={hop:g}: must be above 0 seconds")


def chosen(window: float | None, hop: float | None, longest: float) -> tuple[float, float]:
    """Window and hop in seconds: the longest clip, one after the other, where they are not given.

    Raises:
      UserError: as `check_spans`.
    """
    window = longest if window is None else window
    hop = window if hop is None else hop
    check_spans(window, hop, longest)
    return window, hop


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


def seconds_of(file: pathlib.Path, noticed: Noticed | None = None) -> float:
    """Length of a recording: of what can be decoded, not what its header claims.

    Raises:
      UserError: no such file, not audio, or no sample in it.
    """
    info = wave.info(file)
    if not info.frames:
        raise UserError(f"{printable(file)}: holds no audio samples; record or export it again")
    if noticed is not None and info.notice:
        noticed.notices[file] = info.notice
    return info.seconds


def windows_of(file: pathlib.Path, window: float, hop: float, seconds: float | None = None) -> Iterator[Window]:
    """The windows of one recording, made as they are asked for; `seconds` is its length, where that is known.

    Raises:
      UserError: as `seconds_of` and `check_spans`.
    """
    check_spans(window, hop)
    for i in range(n_spans(seconds_of(file) if seconds is None else seconds, window, hop)):
        yield Window(file, i * hop, i * hop + window)


def sounds(
    recordings: Iterable[Iterable[Window]], quality: Quality, noticed: Noticed | None = None
) -> Iterator[tuple[Window, np.ndarray | None, str]]:
    """(window, its audio f32[T], "") of one window after the other; (window, None, reason) of one that cannot be read.

    A recording stays open while its windows follow each other. It ends with the first window behind what decodes; the
    last window before has the recording's end for its own, and is zero-padded.

    Args:
      recordings: the windows of each, in any order of time. One that cannot be opened gives its first window's reason.
      quality: filter of resampling, the checkpoint's (`AudioConfig.quality`).
      noticed: collects what is to be said of the recordings.
    """
    noticed = Noticed() if noticed is None else noticed
    for windows in recordings:
        windows = iter(windows)
        if (first := next(windows, None)) is None:
            continue
        try:
            with wave.Recording(first.file) as recording:
                yield from _sounds(recording, itertools.chain([first], windows), quality, noticed)
        except UserError as error:
            yield first, None, str(error)


def _sounds(recording: wave.Recording, windows: Iterable[Window], quality: Quality, noticed: Noticed):
    power = lost = 0.0
    for window in windows:
        planned = round((window.end - window.start) * SAMPLE_RATE)
        try:
            part = recording.part(window.start, window.end - window.start, quality)
        except wave.BehindEnd as error:
            if not window.start:
                yield window, None, str(error)
            break
        except UserError as error:
            yield window, None, str(error)
            continue
        noticed.rates[window.file] = part.rate
        if part.notice:
            noticed.notices[window.file] = part.notice
        power, lost = power + part.power * part.wave.size, lost + part.above_band * part.power * part.wave.size
        if part.wave.size < planned:
            if window.start and part.wave.size < TOO_SHORT * SAMPLE_RATE:
                break
            window = dataclasses.replace(window, end=window.start + part.wave.size / SAMPLE_RATE)
        yield window, wave.fit(part.wave, planned), ""
    noticed.ultrasound += lost > power / 2


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
            raise UserError(f"{printable(path)}: no recordings below it; {reasons}")
        if notices is not None:
            notices += [f"{printable(path)}: {notice}" for notice in folder.notices]
        return folder.recordings
    if not path.is_file():
        raise UserError(f"{printable(path)}: no such file or folder")
    return [path]


def all_recordings(paths: Iterable[pathlib.Path], notices: list[str] | None = None) -> list[pathlib.Path]:
    """`recordings` of several paths, each file once though it be named in several ways."""
    files: dict[str, pathlib.Path] = {}
    for path in paths:
        for file in recordings(path, notices):
            files.setdefault(formats.identity(file), file)
    return list(files.values())
