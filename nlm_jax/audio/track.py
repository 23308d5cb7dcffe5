"""One stream of a recording while it is decoded: continued, entered in the middle, ended, or left at corrupt data."""

import contextlib
import dataclasses
import io
import os
from collections.abc import Iterator

import numpy as np
import soundfile
from jaxtyping import Float

from nlm_jax.audio import flac
from nlm_jax.audio.quiet import without_mpg123
from nlm_jax.audio.storage import Data, Piece, Spliced

BLOCK = 1 << 18
"""Samples, of all channels together, that are decoded at a time."""
LEAP = 1 << 12
"""Samples of a damaged FLAC after which it is tried to enter it again."""
LEAD = 12 * 1152
"""Samples of an MP3 or Ogg that are decoded ahead of where it is entered. An MP3's frames need bits of up to nine
frames before them; after a seek the first block of Vorbis is wrong, and Opus settles slowly."""
LAST_PAGES = 30
"""Seconds at the end of an Ogg that are not entered but decoded up to."""
CLAIM = 1 << 48
"""Samples that no file holds: libsndfile names 2**63 - 1 if it does not know."""


class Decoder(soundfile.SoundFile):
    """A stream that is read sequentially: soundfile would seek after every read, which fails at some ends."""

    def __init__(self, data: Data, piece: Piece):
        plain = not (piece.parts or piece.spare)
        if plain and data.path is not None:
            super().__init__(os.fsencode(data.path))
        else:
            super().__init__(io.BufferedReader(Spliced(data, piece), 1 << 16))

    def seekable(self) -> bool:
        """Whether soundfile should note the position itself: no."""
        return False


@dataclasses.dataclass
class Track:
    """One stream of a recording while it is decoded."""

    data: Data
    piece: Piece
    decoder: Decoder
    length: int | None
    """Samples per channel, if they are certain."""
    at: int = 0
    damage: str = ""
    silent: int = 0
    """The sample up to which there is silence in place of damage; there the decoder is."""
    missing: int = 0
    """Samples that were counted but do not decode, for they lie in damage that was leapt over."""

    @classmethod
    def of(cls, data: Data, piece: Piece) -> "Track":
        """Opens it. Raises what soundfile raises."""
        promised, piece = piece, dataclasses.replace(piece, spare=0)
        with without_mpg123() if piece.mpeg else contextlib.nullcontext():
            decoder = Decoder(data, piece)
            if piece.frames is not None and decoder.frames < piece.frames:
                decoder.close()
                piece = promised
                decoder = Decoder(data, piece)
        sure = piece.trusted and piece.verified is None and decoder.frames < CLAIM
        return cls(data, piece, decoder, piece.frames if piece.frames is not None else decoder.frames if sure else None)

    def blocks(self, begin: int, count: int | None, channel: int | None) -> Iterator[Float[np.ndarray, "T"]]:
        """`count` samples from `begin`, or to the end if that comes first, which sets `length`.

        Args:
          channel: from 1; None = their mean.
        """
        if count is None or begin + count > self.decoder.frames:
            self._verify()
        if self.length is not None and begin >= self.length:
            return
        self._go(begin)
        buffer = self._buffer()
        while count is None or count > 0:
            count_read = self._read(buffer, count)
            if not count_read:
                return
            whole = channel is None or channel > self.decoder.channels  # a joined stream may have fewer
            block = buffer[:count_read] if whole else buffer[:count_read, channel - 1 : channel]
            with np.errstate(over="ignore", invalid="ignore"):
                mean = block.mean(axis=1)
            yield mean
            count = None if count is None else count - count_read

    def measure(self) -> None:
        """Sets `length`, by decoding what is left if no header tells for certain."""
        self._verify()
        if self.length is not None:
            return
        buffer = self._buffer()
        while self._read(buffer, None):
            pass

    def _verify(self) -> None:
        """Has the samples counted before a length is taken for certain."""
        if self.piece.verified is None:
            return
        right = self.piece.verified()
        self.piece = right or dataclasses.replace(self.piece, verified=None)
        if right:
            with without_mpg123():
                self._restart()
        self.length = self.decoder.frames

    def _read(self, buffer: np.ndarray, count: int | None) -> int:
        """Reads up to `count` samples on; 0 at the end. What comes before damage counts, then the stream has ended."""
        bounds = (len(buffer), count, None if self.length is None else max(0, self.length - self.at))
        part = buffer[: min(bound for bound in bounds if bound is not None)]
        if self.at < self.silent:
            count_read = min(len(part), self.silent - self.at)
            part[:count_read] = 0.0
        elif not len(part):
            count_read = 0
        else:
            part.fill(np.nan)
            try:
                count_read = self.decoder.buffer_read_into(part, "float32")
            except (soundfile.SoundFileError, RuntimeError) as error:
                count_read = int(np.argmin(np.append(~np.isnan(part[:, -1]), False)))
                at = self.at
                self._leap(at + count_read, reason(error))
                self.at = at
                if not count_read and self.at < self.silent:
                    return self._read(buffer, count)
        self.at += count_read
        if not count_read and (count is None or count > 0):
            if self.length is not None and not self.damage:
                self.missing = self.length - self.at
            self.length = self.at if self.length is None else min(self.length, self.at)
        return count_read

    def _leap(self, begin: int, why: str) -> None:
        """Continues a FLAC after corrupt data, whose length its frame numbers give; any other stream ends there."""
        rate = self.decoder.samplerate
        if not self.piece.bounded:
            self._bound()
        if self.length is not None and self.piece.entered and self.decoder.format == "FLAC":
            tries = (*range(begin + LEAP, begin + 64 * LEAP, LEAP), *(begin + (LEAP << n) for n in range(6, 32)))
            for target in tries:
                if target >= self.length:
                    break
                with contextlib.suppress(soundfile.SoundFileError, RuntimeError):
                    self._restart()
                    if self.decoder.seek(target) == target:
                        self.silent = target
                        self.damage = self.damage or (
                            f"from {begin / rate:.2f} to {target / rate:.2f} s ({why}); silent there, resumed after it"
                        )
                        return
        self.damage = self.damage or f"after {begin / rate:.2f} s ({why}); read up to there"
        self.length = begin

    def _go(self, target: int) -> None:
        """Moves to a sample: by a seek if that is sure, else by decoding up to it."""
        if target == self.at:
            return
        with without_mpg123() if self.decoder.format == "MP3" else contextlib.nullcontext():
            self._go_on(target, self._entry(target))

    def _go_on(self, target: int, entry: int) -> None:
        if not entry <= self.at <= target:
            self.silent = 0
            if not self.piece.bounded:
                self._bound()
            if self.piece.entered and soundfile.SoundFile.seekable(self.decoder):
                try:
                    self.at = self.decoder.seek(entry)
                except (soundfile.SoundFileError, RuntimeError):
                    self._restart()
            elif self.at > target:
                self._restart()
        buffer = self._buffer()
        while self.at < target and self._read(buffer, target - self.at):
            pass

    def _entry(self, target: int) -> int:
        """Where to enter for a sample: ahead of it in lossy streams, and of an Ogg's last pages, which it misplaces."""
        if self.decoder.format == "OGG" and self.length is not None:
            target = min(target, self.length - LAST_PAGES * self.decoder.samplerate)
        return max(0, target - LEAD) if self.decoder.format in ("MP3", "OGG") else target

    def _bound(self) -> None:
        """Cuts off later streams, which a seek would treat as parts of this one."""
        self.piece = flac.bounded(self.data, self.piece)
        self._restart()

    def _restart(self) -> None:
        self.decoder.close()
        self.decoder, self.at, self.silent = Decoder(self.data, self.piece), 0, 0

    def _buffer(self) -> np.ndarray:
        return np.empty((max(1, BLOCK // self.decoder.channels), self.decoder.channels), np.float32)


def reason(error: Exception, unknown: str = "unknown error") -> str:
    """The message of libsndfile in one line; `unknown` if it claims that an opened file is missing."""
    text = getattr(error, "error_string", None) or (str(error).splitlines() or [""])[0]
    if "SF_INFO struct incomplete" in text:
        return "the header names no sampling rate, or none that can be"
    return unknown if not text or "does not exist" in text else text.removeprefix("Error : ").rstrip(". ")
