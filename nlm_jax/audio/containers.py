"""WAV, RF64, AIFF, CAF and AU whose size of the samples is wrong: a recorder lost power, a pipe, a size beyond 4 GiB.

libsndfile believes sizes that are too small. A size is wrong if what follows the samples is no chunk.
"""

import dataclasses
import struct
from collections.abc import Iterator

from nlm_jax.audio.storage import Data, Piece

CHUNKS = 1_000
"""A header with more of them is none."""
TAGS = (b"ID3", b"TAG", b"APETAGEX")
"""Data that music programs append outside of the container."""
STARTS = ((b"RIFF", b"WAVE"), (b"FORM", b"AIFF"), (b"FORM", b"AIFC"))
"""The first and third word of what may be joined."""
BIG = 0xFFFFFFF0


@dataclasses.dataclass(frozen=True)
class Samples:
    """Where a header says that the samples are."""

    size_at: int
    """Offset of the field with their size."""
    form: str
    """Its `struct` format."""
    begin: int
    size: int
    header: int = 4
    """Bytes of a chunk's name."""
    whole: int = 0
    """Where the file ends, by its header."""
    rate: int = 0
    """Bytes per second; 0 if unknown."""
    format: bytes = b""
    """The `fmt ` chunk of a WAV."""
    is_wide: bool = False
    """Whether the size has 64 bits: of CAF, for which -1 is "to the end", and of RF64."""


def pieces(data: Data, begin: int = 0) -> Iterator[Piece]:
    """The samples of a container at `begin`, with a size that is right; and those of another that is joined to it."""
    while True:
        samples = _wave(data, begin) or _aiff(data, begin) or _caf(data, begin) or _au(data, begin)
        next_ = _joined(data, samples) if samples else 0
        if next_:
            yield Piece(((begin, next_),))
            begin = next_
            continue
        rest = data.size - samples.begin if samples else 0
        if samples and (_is_short(data, samples) or (samples.size > rest and samples.is_wide)):
            yield _mended(data, begin, samples, rest)
        elif samples and data.read(begin, 4) == b"BW64":  # the same as RF64, which libsndfile knows
            yield _mended(data, begin, samples, samples.size)
        else:
            yield Piece(((begin, data.size),) if begin else ())
        return


def _is_short(data: Data, samples: Samples) -> bool:
    """Whether there are samples after the size that the header names."""
    end = samples.begin + samples.size
    tail = data.size - end
    if tail < 16 or any(data.read(at, 8).startswith(TAGS) for at in (end, end + 1)):
        return False
    if samples.header and any(_chunks_until_end(data, samples, at) for at in (end, end + samples.size % 2)):
        return False
    if not any(any(data.read(at, 4096)) for at in (end, end + tail // 2, data.size - 4096)):
        return False  # space that a recorder reserved before its samples
    inside = samples.whole >= data.size - 1 > end
    return inside or not samples.size or tail >= max(1, samples.rate)


def _chunks_until_end(data: Data, samples: Samples, at: int) -> bool:
    """Whether well-formed chunks fill the rest of the file (the last one may be cut short)."""
    width = struct.calcsize(samples.form)
    for count in range(CHUNKS):
        head = data.read(at, samples.header + width)
        if len(head) < samples.header + width:
            return count > 0
        name, (size,) = head[: samples.header], struct.unpack(samples.form, head[samples.header :])
        if not all(32 <= byte < 127 for byte in name) or (not count and at + len(head) + size > data.size + 1):
            return False
        at += len(head) + size + (size % 2 if width == 4 else 0)
        if at >= data.size:
            return True
    return False


def _joined(data: Data, samples: Samples) -> int:
    """Where another container begins after the samples; 0 if none does."""
    end = samples.begin + samples.size
    for at in (end, end + 1):
        head = data.read(at, 12)
        if (head[:4], head[8:12]) in STARTS or (head[:4] == b"caff" and samples.is_wide):
            return at
    return 0


def _mended(data: Data, begin: int, samples: Samples, size: int) -> Piece:
    """The container with the size that there is."""
    tail = (samples.begin, data.size)
    if samples.format:
        body = b"WAVE" + samples.format + b"data"
        if size < BIG - len(body):
            head = b"RIFF" + struct.pack("<I", len(body) + 4 + size) + body + struct.pack("<I", size)
        else:
            sizes = struct.pack("<IQQQI", 28, len(body) + 40 + size, size, 0, 0)
            head = b"RF64\xff\xff\xff\xffWAVEds64" + sizes + body[4:] + b"\xff\xff\xff\xff"
        return Piece((head, tail))
    right = size + (samples.begin - samples.size_at - struct.calcsize(samples.form) if samples.header else 0)
    field = struct.pack(samples.form, min(right, (1 << 8 * struct.calcsize(samples.form)) - 1))
    after = samples.size_at + len(field)
    return Piece(((begin, samples.size_at), field, (after, samples.begin), tail))


def _wave(data: Data, begin: int) -> Samples | None:
    head = data.read(begin, 12)
    if head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:12] != b"WAVE":
        return None
    at, fmt, sizes = begin + 12, b"", (0, 0)
    for _ in range(CHUNKS):
        name, size = data.read(at, 4), data.read(at + 4, 4)
        if len(size) < 4:
            return None
        size = struct.unpack("<I", size)[0]
        if name == b"fmt " and 16 <= size <= 4096:
            fmt = data.read(at, 8 + size + size % 2)
        elif name == b"ds64" and size >= 16:
            sizes = struct.unpack("<QQ", data.read(at + 8, 16).ljust(16, b"\0"))
        elif name == b"data":
            if len(fmt) < 24:
                return None
            if head[:4] != b"RIFF" and size == 0xFFFFFFFF:
                size = sizes[1]
            whole = begin + 8 + struct.unpack("<I", head[4:8])[0]
            rate = struct.unpack("<I", fmt[16:20])[0]
            wide = head[:4] != b"RIFF"
            return Samples(at + 4, "<I", at + 8, size, whole=whole, rate=rate, format=fmt, is_wide=wide)
        at += 8 + size + size % 2
    return None


def _aiff(data: Data, begin: int) -> Samples | None:
    """An AIFF whose two sizes disagree; libsndfile uses the sample size alone, and reads to the end if it is 0."""
    head = data.read(begin, 12)
    if head[:4] != b"FORM" or head[8:12] not in (b"AIFF", b"AIFC"):
        return None
    at, rate = begin + 12, 0
    for _ in range(CHUNKS):
        name, size = data.read(at, 4), data.read(at + 4, 4)
        if len(size) < 4:
            return None
        size = struct.unpack(">I", size)[0]
        if name == b"COMM":
            channels, _, bits, exponent, mantissa = struct.unpack(">hIhHQ", data.read(at + 8, 18).ljust(18, b"\0"))
            rate = round(mantissa * 2.0 ** (max(0, min(exponent, 1 << 14)) - 16383 - 63)) if exponent < 16447 else 0
            rate *= max(1, channels) * max(1, bits // 8)
        elif name == b"SSND":
            whole = begin + 8 + struct.unpack(">I", head[4:8])[0]
            return Samples(at + 4, ">I", at + 16, max(0, size - 8), whole=whole, rate=rate) if size else None
        at += 8 + size + size % 2
    return None


def _caf(data: Data, begin: int) -> Samples | None:
    if data.read(begin, 4) != b"caff":
        return None
    at, rate = begin + 8, 0
    for _ in range(CHUNKS):
        name, size = data.read(at, 4), data.read(at + 4, 8)
        if len(size) < 8:
            return None
        size = struct.unpack(">Q", size)[0]
        if name == b"desc":
            hertz, _, _, packet, frames = struct.unpack(">d4sIII", data.read(at + 12, 24).ljust(24, b"\0"))
            rate = int(hertz * packet / max(1, frames)) if 0 < hertz < 1e9 else 0
        elif name == b"data":
            return Samples(at + 4, ">Q", at + 16, max(0, size - 4), rate=rate, is_wide=True)
        at += 12 + size
    return None


def _au(data: Data, begin: int) -> Samples | None:
    head = data.read(begin, 24)
    if head[:4] not in (b".snd", b"dns.") or len(head) < 24:
        return None
    form = ">I" if head[:4] == b".snd" else "<I"
    offset, size, _, rate, channels = struct.unpack(form[0] + "IIIII", head[4:24])
    return Samples(begin + 8, form, begin + offset, size, header=0, rate=rate * max(1, channels))
