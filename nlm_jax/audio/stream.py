"""The samples of a recording, channels averaged, block by block. Lengths are those of the audio that decodes."""

from collections.abc import Iterator

import numpy as np
import soundfile
from jaxtyping import Float

from nlm_jax.audio import containers, flac, mpeg, ogg
from nlm_jax.audio.storage import Data, Piece
from nlm_jax.audio.track import Track, reason
from nlm_jax.core.errors import NotFinite, UserError

CACHED_SAMPLES = 1 << 23
"""Maximum length of a part that is cached for the next one, which may begin before its end."""
MISSING = 0.2
"""Seconds. Lossy codecs may omit less than this at the end, which is not damage."""
MPEG = (".mp3", ".mp2")
RATES = (100, 1_000_000)
"""Plausible sampling rates in Hz: from infrasound to recordings of echolocation."""


def pieces(data: Data) -> Iterator[Piece]:
    """The streams of a recording, by its first bytes; each is searched for when the one before has ended."""
    head = data.read(0, 12)
    if head[:4] in (b"RIFF", b"RF64", b"BW64", b"FORM", b"caff", b".snd", b"dns."):
        yield from containers.pieces(data)
    elif head[:4] == b"OggS":
        yield from ogg.pieces(data)
    elif head[:4] == b"fLaC":
        yield from flac.pieces(data)
    elif head[:3] == b"ID3" and data.read(begin := mpeg.skip_tags(data, 0), 4) == b"fLaC":
        yield from flac.pieces(data, begin)
    elif head[:4] in (b"riff", b"NIST", b"Crea"):
        yield Piece()
    elif head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0") or _is_named_mpeg(data):
        yield from mpeg.pieces(data)
    else:
        yield Piece()


def _is_named_mpeg(data: Data) -> bool:
    """Whether the name is that of an MPEG file, or there is no name: frames may follow other content."""
    return data.path is None or data.path.suffix.lower() in MPEG


class Stream:
    """All streams of a recording, concatenated."""

    def __init__(self, data: Data):
        """Opens the first stream. Raises the errors of soundfile, and UserError for an impossible sampling rate."""
        self._data, self._pieces, self._tracks = data, pieces(data), []
        self._last: tuple[int, int | None, np.ndarray] | None = None
        self.notice = ""
        """Why the recording is not read whole; "" if it is."""
        self._tracks.append(Track.of(data, next(self._pieces)))
        first = self._tracks[0].decoder
        self.rate, self.channels, self.floats = first.samplerate, first.channels, first.subtype in ("FLOAT", "DOUBLE")
        check_rate(self.rate)

    def close(self) -> None:
        """Closes all streams."""
        for track in self._tracks:
            track.decoder.close()

    def read(self, begin: int, count: int | None = None, channel: int | None = None) -> Float[np.ndarray, "T"]:
        """Samples, fewer at the end of the recording.

        Args:
          begin: first sample.
          count: number of samples; None = to the end.
          channel: from 1; None = the mean of all channels.

        Raises:
          NotFinite: samples, or means of them, are not finite.
          UserError: there is no such channel.
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
        if len(samples) <= CACHED_SAMPLES:
            self._last = (begin, channel, samples)
        return samples

    def blocks(self, begin: int, count: int | None, channel: int | None) -> Iterator[Float[np.ndarray, "T"]]:
        """As `read`, in blocks and unchecked."""
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
        """Samples per channel. Streams whose header is not reliable are decoded."""
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
        """Stream number `number`, opened; None after the last one that can be read."""
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
        """Ends reading although another stream follows."""
        self._pieces = iter(())
        self.notice = self.notice or f"{len(self._tracks)} of several joined streams read: {why}"


def check_rate(rate: float) -> None:
    """UserError for a sampling rate in Hz outside `RATES`."""
    if not RATES[0] <= rate <= RATES[1]:
        raise UserError(f"a sampling rate of {rate:.0f} Hz is taken for a damaged header; export it with the true one")
