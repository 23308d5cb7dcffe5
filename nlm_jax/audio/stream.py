"""The samples of a recording, channels averaged, block by block. What decodes counts, not what headers say."""

import contextlib
import dataclasses
import io
import os
from collections.abc import Iterator

import numpy as np
import soundfile
from jaxtyping import Float

from nlm_jax.audio import containers, flac, mpeg, ogg
from nlm_jax.audio.quiet import without_mpg123
from nlm_jax.audio.storage import Data, Piece, Spliced
from nlm_jax.core.errors import NotFinite, UserError

BLOCK = 1 << 18
"""Samples, of all channels together, that are decoded at a time."""
REMEMBERED = 1 << 23
"""Samples of the last part that are kept for the next one, which may begin before its end."""
LEAP = 1 << 12
"""Samples of a damaged FLAC after which it is tried to enter it again."""
LEAD = 12 * 1152
"""Samples of an MP3 or Ogg that are decoded ahead of where it is entered. An MP3's frames need bits of up to nine
frames before them; behind a seek the first block of Vorbis is wrong, and Opus settles slowly."""
LAST_PAGES = 30
"""Seconds at the end of an Ogg that are not entered but decoded up to."""
CLAIM = 1 << 48
"""Samples that no file holds: libsndfile names 2**63 - 1 where it does not know."""
MISSING = 0.2
"""Seconds; less than that lossy codecs leave out at the end."""
MPEG = (".mp3", ".mp2")
RATES = (100, 1_000_000)
"""Hz between which a sampling rate is believed: of infrasound, and of what echolocation is recorded with."""


def pieces(data: Data) -> Iterator[Piece]:
    """The streams that a recording consists of, by what it begins with; each is looked for when the last has ended."""
    head = data.read(0, 12)
    if head[:4] in (b"RIFF", b"RF64", b"BW64", b"FORM", b"caff", b".snd", b"dns."):
        yield from containers.pieces(data)
    elif head[:4] == b"OggS":
        yield from ogg.pieces(data)
    elif head[:4] == b"fLaC":
        yield from flac.pieces(data)
    elif head[:3] == b"ID3" and data.read(begin := mpeg.behind_tags(data, 0), 4) == b"fLaC":
        yield from flac.pieces(data, begin)
    elif head[:4] in (b"riff", b"NIST", b"Crea"):
        yield Piece()
    elif head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0") or _is_named_mpeg(data):
        yield from mpeg.pieces(data)
    else:
        yield Piece()


def _is_named_mpeg(data: Data) -> bool:
    """Whether only the name says so, or there is none: there may be frames behind something else."""
    return data.path is None or data.path.suffix.lower() in MPEG


class Decoder(soundfile.SoundFile):
    """A stream that is read on from where it is: soundfile would seek after every read, which fails at some ends."""

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
            got = self._read(buffer, count)
            if not got:
                return
            whole = channel is None or channel > self.decoder.channels  # a joined stream may have fewer
            block = buffer[:got] if whole else buffer[:got, channel - 1 : channel]
            with np.errstate(over="ignore", invalid="ignore"):
                mean = block.mean(axis=1)
            yield mean
            count = None if count is None else count - got

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
            got = min(len(part), self.silent - self.at)
            part[:got] = 0.0
        elif not len(part):
            got = 0
        else:
            part.fill(np.nan)
            try:
                got = self.decoder.buffer_read_into(part, "float32")
            except (soundfile.SoundFileError, RuntimeError) as error:
                got = int(np.argmin(np.append(~np.isnan(part[:, -1]), False)))
                at = self.at
                self._leap(at + got, reason(error))
                self.at = at
                if not got and self.at < self.silent:
                    return self._read(buffer, count)
        self.at += got
        if not got and (count is None or count > 0):
            if self.length is not None and not self.damage:
                self.missing = self.length - self.at
            self.length = self.at if self.length is None else min(self.length, self.at)
        return got

    def _leap(self, begin: int, why: str) -> None:
        """Enters a FLAC behind damage, of which its own numbers say how long it is; any other stream ends there."""
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
                            f"from {begin / rate:.2f} to {target / rate:.2f} s ({why}); silent there, read on behind it"
                        )
                        return
        self.damage = self.damage or f"after {begin / rate:.2f} s ({why}); read up to there"
        self.length = begin

    def _go(self, target: int) -> None:
        """Moves to a sample: by a seek where that is sure, else by decoding up to it."""
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
        """Leaves out the streams behind, which a seek would take for parts of this one."""
        self.piece = flac.bounded(self.data, self.piece)
        self._restart()

    def _restart(self) -> None:
        self.decoder.close()
        self.decoder, self.at, self.silent = Decoder(self.data, self.piece), 0, 0

    def _buffer(self) -> np.ndarray:
        return np.empty((max(1, BLOCK // self.decoder.channels), self.decoder.channels), np.float32)


class Stream:
    """All streams of a recording, one behind the other."""

    def __init__(self, data: Data):
        """Opens the first. Raises what soundfile raises, and UserError for a rate that cannot be."""
        self._data, self._pieces, self._tracks = data, pieces(data), []
        self._last: tuple[int, int | None, np.ndarray] | None = None
        self.notice = ""
        """Why less of it is read than there may be; "" if all of it is."""
        self._tracks.append(Track.of(data, next(self._pieces)))
        first = self._tracks[0].decoder
        self.rate, self.channels, self.floats = first.samplerate, first.channels, first.subtype in ("FLOAT", "DOUBLE")
        check_rate(self.rate)

    def close(self) -> None:
        """Closes all."""
        for track in self._tracks:
            track.decoder.close()

    def read(self, begin: int, count: int | None = None, channel: int | None = None) -> Float[np.ndarray, "T"]:
        """`count` samples from `begin`, fewer at the end; None = all that follow. Channels as of `Track.blocks`.

        Raises:
          UserError: samples, or means of them, that are not finite; or no such channel.
        """
        if channel is not None and not 1 <= channel <= self.channels:
            raise UserError(f"has {self.channels} channels, no channel {channel}")
        out, at, last = [], begin, self._last
        if last is not None and last[1] == channel and last[0] <= begin <= last[0] + len(last[2]):
            out.append(last[2][begin - last[0] :][:count])
            at += len(out[0])
        self._last = None
        left = None if count is None else count - (at - begin)
        for block in self.blocks(at, left, channel) if left != 0 else ():
            finite = np.isfinite(block)
            if not finite.all():
                raise NotFinite(
                    f"holds samples that are NaN or infinite, at {(at + finite.argmin()) / self.rate:.3f} s"
                )
            out.append(block)
            at += len(block)
        samples = out[0] if len(out) == 1 else np.concatenate([np.zeros(0, np.float32), *out])
        if len(samples) <= REMEMBERED:
            self._last = (begin, channel, samples)
        return samples

    def blocks(self, begin: int, count: int | None, channel: int | None) -> Iterator[Float[np.ndarray, "T"]]:
        """The same in blocks."""
        number, start = 0, 0
        while (track := self._track(number)) is not None:
            if track.length is None or begin < start + track.length:
                for block in track.blocks(begin - start, count, channel):
                    if track.damage:
                        self._note(track, start)
                    begin += len(block)
                    count = None if count is None else count - len(block)
                    yield block
                if count == 0:
                    return
            self._note(track, start)
            start, number = start + track.length, number + 1

    def length(self) -> int:
        """Samples per channel. Decodes what no header tells for certain."""
        number, total = 0, 0
        while (track := self._track(number)) is not None:
            if track.length is None:
                track.measure()
            self._note(track, total)
            total, number = total + track.length, number + 1
        return total

    def _note(self, track: Track, start: int) -> None:
        if track.missing > MISSING * self.rate and not self.notice:
            self.notice = f"damaged inside: {track.missing / self.rate:.2f} s are missing, later times are too early"
        if track.damage and not self.notice:
            stream = f" in stream {self._tracks.index(track) + 1}, its times" if start else ""
            self.notice = f"damaged{stream} {track.damage}"

    def _track(self, number: int) -> Track | None:
        """The stream of a number, opened; None behind the last that can be read."""
        if number < len(self._tracks):
            return self._tracks[number]
        piece = next(self._pieces, None)
        if piece is None:
            return None
        try:
            track = Track.of(self._data, piece)
        except (soundfile.SoundFileError, RuntimeError) as error:
            return self._stop(f"the next cannot be read ({reason(error)})")
        if track.decoder.samplerate != self.rate:
            track.decoder.close()
            return self._stop(f"the next has {track.decoder.samplerate} Hz, not {self.rate}")
        self._tracks.append(track)
        return track

    def _stop(self, why: str) -> None:
        """Nothing more is read of a recording that goes on."""
        self._pieces = iter(())
        self.notice = self.notice or f"{len(self._tracks)} of several joined streams read: {why}"


def check_rate(rate: float) -> None:
    """Raises UserError for a sampling rate, in Hz, that no recording has."""
    if not RATES[0] <= rate <= RATES[1]:
        raise UserError(f"a sampling rate of {rate:.0f} Hz is taken for a damaged header; export it with the true one")


def reason(error: Exception, unknown: str = "unknown error") -> str:
    """What libsndfile says, in one line; `unknown` where it says that a file is missing that was opened."""
    text = getattr(error, "error_string", None) or (str(error).splitlines() or [""])[0]
    if "SF_INFO struct incomplete" in text:
        return "the header names no sampling rate, or none that can be"
    return unknown if not text or "does not exist" in text else text.removeprefix("Error : ").rstrip(". ")
