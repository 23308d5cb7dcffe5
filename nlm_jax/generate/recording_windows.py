"""Long recordings split into windows, which are decoded one at a time."""

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
"""Minimum length of a window in seconds: a shorter one gives the Q-Former no input."""
NEGLIGIBLE = 0.01
"""A rest of fewer seconds after the last full window gets no window of its own."""


@dataclasses.dataclass(frozen=True)
class Window:
    """Part of a recording, in seconds from its start. As planned, the last one may extend past the recording's end."""

    file: pathlib.Path
    start: float
    end: float

    def wave(self, quality: Quality = "HQ") -> np.ndarray:
        """Its audio f32[T], zero-padded to the window's length (as training pads short clips)."""
        seconds = self.end - self.start
        return wave.fit(wave.load(self.file, self.start, seconds, quality), round(seconds * SAMPLE_RATE))


ReadWindow = tuple[Window, np.ndarray | None, str]
"""A window with its audio f32[T] and "", or with None and the reason why it cannot be read."""


@dataclasses.dataclass
class Notices:
    """Warnings about recordings, collected while their windows are read."""

    unread: list[str] = dataclasses.field(default_factory=list)
    """Warnings about audio files in the folders that are not read at all."""
    rates: dict[pathlib.Path, int] = dataclasses.field(default_factory=dict)
    """Sample rate in Hz of each recording."""
    incomplete: dict[pathlib.Path, str] = dataclasses.field(default_factory=dict)
    """Why a recording is not read to its end."""
    ultrasound: int = 0
    """Recordings with most of the energy above 8 kHz."""

    def sentences(self, limit: int = 10) -> list[str]:
        """All warnings; of those about incomplete recordings the first `limit`, and the number of the others."""
        incomplete = [f"{printable(file)}: {text}" for file, text in itertools.islice(self.incomplete.items(), limit)]
        if len(self.incomplete) > limit:
            incomplete.append(f"{len(self.incomplete) - limit} more recordings are not read to their end")
        return self.unread + incomplete + list(filter(None, [ultrasound_notice(self.ultrasound)]))


def check_spans(window: float, hop: float, longest: float = math.inf) -> None:
    """Raises UserError if a window is below 0.5 s or above `longest`, or a hop is not positive.

    Args:
      window, hop: in seconds.
      longest: the checkpoint's clip length in seconds. If it is below 0.5 s, windows must have this length.
    """
    least = min(SHORTEST, longest)
    if not (least <= window <= longest and window < math.inf):
        limits = f"{least:g} to {longest:g}" if least < longest < math.inf else f"at least {least:g}"
        raise UserError(f"window={window:g}: the model takes {limits} seconds at a time")
    if not 0 < hop < math.inf:
        raise UserError(f"hop={hop:g}: must be above 0 seconds")


def window_and_hop(window: float | None, hop: float | None, longest: float) -> tuple[float, float]:
    """Window and hop in seconds; by default the window is `longest`, and the hop is the window.

    Raises:
      UserError: as `check_spans`.
    """
    window = longest if window is None else window
    hop = window if hop is None else hop
    check_spans(window, hop, longest)
    return window, hop


def n_spans(seconds: float, window: float, hop: float) -> int:
    """The number of windows of `spans`."""
    count = max(1, math.ceil((seconds - NEGLIGIBLE - window) / hop) + 1)
    while (count - 1) * hop + window < seconds - NEGLIGIBLE:  # the division may be off by a rounding error
        count += 1
    while count > 1 and (count - 2) * hop + window >= seconds - NEGLIGIBLE:
        count -= 1
    while count > 1 and (count - 1) * hop >= seconds - NEGLIGIBLE:  # a hop longer than the window may skip the end
        count -= 1
    return count


def spans(seconds: float, window: float, hop: float) -> list[tuple[float, float]]:
    """(start, end) of the windows over a recording of `seconds`, one every `hop` seconds until all of it is covered.

    The reference ignores what follows the last full window; here one more window covers it and extends past the end,
    unless less than a hundredth of a second is left. With a hop longer than the window, the parts between windows are
    skipped.

    Raises:
      UserError: as `check_spans`.
    """
    check_spans(window, hop)
    return [(i * hop, i * hop + window) for i in range(n_spans(seconds, window, hop))]


def duration(file: pathlib.Path, notices: Notices | None = None) -> float:
    """Length of a recording in seconds: of what can be decoded, not what its header claims.

    Args:
      file: the recording.
      notices: collects a warning if the recording is not read to its end.

    Raises:
      UserError: no such file, not audio, or no samples in it.
    """
    info = wave.info(file)
    if not info.frames:
        raise UserError(f"{printable(file)}: holds no audio samples; record or export it again")
    if notices is not None and info.notice:
        notices.incomplete[file] = info.notice
    return info.seconds


def windows_of(file: pathlib.Path, window: float, hop: float, seconds: float | None = None) -> Iterator[Window]:
    """The windows of one recording.

    Args:
      file: the recording.
      window, hop: in seconds.
      seconds: length of the recording; read from the file if None.

    Raises:
      UserError: as `duration` and `check_spans`.
    """
    check_spans(window, hop)
    for i in range(n_spans(duration(file) if seconds is None else seconds, window, hop)):
        yield Window(file, i * hop, i * hop + window)


def read_windows(
    recordings: Iterable[Iterable[Window]], quality: Quality, notices: Notices | None = None
) -> Iterator[ReadWindow]:
    """Reads the audio of windows, one at a time.

    A recording is opened once for its consecutive windows. It ends at the first window after the last decodable
    sample; the window before that one gets the recording's end as its own, and zero-padded audio.

    Args:
      recordings: the windows of each recording, in any order of time. One that cannot be opened yields only its first
        window, with the reason.
      quality: filter for resampling, the checkpoint's (`AudioConfig.quality`).
      notices: collects warnings about the recordings.
    """
    notices = Notices() if notices is None else notices
    for windows in recordings:
        windows = iter(windows)
        if (first := next(windows, None)) is None:
            continue
        try:
            with wave.Recording(first.file) as recording:
                yield from _read(recording, itertools.chain([first], windows), quality, notices)
        except UserError as error:
            yield first, None, str(error)


def _read(
    recording: wave.Recording, windows: Iterable[Window], quality: Quality, notices: Notices
) -> Iterator[ReadWindow]:
    """Reads the windows of one open recording."""
    power = power_above_band = 0.0
    for window in windows:
        samples = round((window.end - window.start) * SAMPLE_RATE)
        try:
            part = recording.part(window.start, window.end - window.start, quality)
        except wave.PastEnd as error:
            if not window.start:
                yield window, None, str(error)
            break
        except UserError as error:
            yield window, None, str(error)
            continue
        notices.rates[window.file] = part.rate
        if part.notice:
            notices.incomplete[window.file] = part.notice
        power += part.power * part.wave.size
        power_above_band += part.above_band * part.power * part.wave.size
        if part.wave.size < samples:
            if window.start and part.wave.size < NEGLIGIBLE * SAMPLE_RATE:
                break
            window = dataclasses.replace(window, end=window.start + part.wave.size / SAMPLE_RATE)
        yield window, wave.fit(part.wave, samples), ""
    notices.ultrasound += power_above_band > power / 2


def recordings(path: pathlib.Path, unread: list[str] | None = None) -> list[pathlib.Path]:
    """The file itself, or every recording below a folder, sorted.

    Args:
      path: a file or folder.
      unread: collects warnings about audio files in the folder that are not read.

    Raises:
      UserError: no such file or folder, or no recordings in it.
    """
    if path.is_dir():
        folder = formats.Folder.of(path)
        if not folder.recordings:
            reasons = "; ".join(folder.notices) or f"looked for {', '.join(formats.READABLE)}"
            raise UserError(f"{printable(path)}: no recordings below it; {reasons}")
        if unread is not None:
            unread += [f"{printable(path)}: {notice}" for notice in folder.notices]
        return folder.recordings
    if not path.is_file():
        raise UserError(f"{printable(path)}: no such file or folder")
    return [path]


def all_recordings(paths: Iterable[pathlib.Path], unread: list[str] | None = None) -> list[pathlib.Path]:
    """The `recordings` of several paths; a file that occurs under several names is listed once."""
    files: dict[str, pathlib.Path] = {}
    for path in paths:
        for file in recordings(path, unread):
            files.setdefault(formats.identity(file), file)
    return list(files.values())
