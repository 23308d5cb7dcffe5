"""MP3 without a table of contents, or with one that is wrong: its frames are counted and its streams distinguished.

libsndfile takes the length from the table (Xing, Info) or guesses it from the first frame. Frames are counted from
their headers, without decoding: a millisecond for minutes of sound. What is no frame (tags, zeros) is not handed on.
"""

import dataclasses
import functools
import re
import struct
from collections.abc import Iterator

from nlm_jax.audio.storage import Data, Piece, remembered

READ = 1 << 20
SCANNED = 1 << 17
"""Bytes within which two frames in a row are enough to find the next frame."""
LONGEST = 2881
"""Bytes of the longest frame."""
CANDIDATE = re.compile(rb"(?=\xff[\xe2-\xff][\x10-\xef])")
"""Where a frame may begin."""
RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
KBITS = {
    (3, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
KBITS |= {(2, 1): KBITS[2, 2], **{(0, layer): KBITS[2, layer if layer > 1 else 2] for layer in (1, 2, 3)}}
"""(version: 3 = MPEG-1, 2 = MPEG-2, 0 = MPEG-2.5; layer: 3 = I, 2 = II, 1 = III) -> rates of bits."""


@functools.cache
def sizes() -> dict[int, int]:
    """Second and third byte of a frame's header -> bytes of the frame."""
    frame_sizes = {}
    for (version, layer), rates in KBITS.items():
        for code, kbits in enumerate(rates, 1):
            for number, rate in enumerate(RATES[version]):
                for padded in (0, 1):
                    factor = 144_000 if version == 3 or layer == 2 else 72_000
                    layer_1 = (12_000 * kbits // rate + padded) * 4
                    size = layer_1 if layer == 3 else factor * kbits // rate + padded
                    for low in (0, 1):  # protection and private bit
                        key = (0xE0 | version << 3 | layer << 1 | low) << 8 | code << 4 | number << 2 | padded << 1
                        frame_sizes[key] = frame_sizes[key | 1] = size
    return frame_sizes


def samples_of(header: bytes) -> int:
    """Samples per channel of a frame."""
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    return 384 if layer == 3 else 1152 if version == 3 or layer == 2 else 576


def kind(header: bytes) -> tuple[int, int, bool]:
    """Properties that all frames of a stream share: version and layer, rate, mono."""
    return header[1] & 0x1E, header[2] & 0x0C, header[3] >> 6 == 3


@dataclasses.dataclass(frozen=True)
class Contents:
    """The table of contents in a Xing or Info frame: number and size of the frames of the stream."""

    at: int
    """Offset of its name in the frame."""
    flags: int
    frames: int
    size: int
    """Bytes, this frame included."""

    @classmethod
    def of(cls, frame: bytes) -> "Contents | None":
        """The table in a frame; None if there is none."""
        mono, first = frame[3] >> 6 == 3, frame[1] >> 3 & 3 == 3
        at = 4 + ((17 if mono else 32) if first else (9 if mono else 17))
        if frame[at : at + 4] not in (b"Xing", b"Info") or len(frame) < at + 16:
            return None
        flags = struct.unpack(">I", frame[at + 4 : at + 8])[0]
        fields = struct.unpack(">II", frame[at + 8 : at + 16])
        frames = fields[0] if flags & 1 else 0
        size = fields[flags & 1] if flags & 2 else 0
        return cls(at, flags, frames, size)

    def corrected(self, frame: bytes, frames: int, size: int) -> bytes:
        """The frame with another number of frames and bytes, and no padding to remove at the end."""
        out, at = bytearray(frame), self.at + 8
        for flag, value in ((1, frames), (2, size)):
            if self.flags & flag:
                out[at : at + 4] = struct.pack(">I", value)
                at += 4
        lame = self.at + 8 + 4 * (self.flags & 1) + 2 * (self.flags & 2) + 25 * (self.flags & 4) + (self.flags & 8) // 2
        if len(out) > lame + 24:  # encoder's delay and padding, 12 bits each
            out[lame + 22] &= 0xF0
            out[lame + 23] = 0
        return bytes(out)


def pieces(data: Data, begin: int = 0) -> Iterator[Piece]:
    """The streams from `begin` on: one per table of contents, kind of frames, and gap between frames."""
    whole = not begin
    while (first := find_frame(data, begin)) is not None:
        frame = frame_at(data, first)
        if frame[36:40] == b"VBRI":  # another table of contents, in a frame without sound
            first, frame = first + len(frame), frame_at(data, first + len(frame))
        contents = Contents.of(frame)
        if contents and contents.frames and contents.size and _ends(data, first + contents.size):
            end = first + contents.size
            piece = Piece(((first, end),), verified=functools.partial(_verified, data, first, end, contents))
        else:
            end, count = _count(data, first)
            piece = _counted(first, end, frame, contents, count)
        if whole and not isinstance(piece.parts[0], bytes) and _is_plain(data, first, end):
            piece = dataclasses.replace(piece, parts=())  # the file itself: it is read without detours
        yield dataclasses.replace(piece, mpeg=True)
        whole, begin = False, end
    if whole:  # as bytes, for libsndfile believes a name and libmpg123 then prints what it does not understand
        yield Piece(((0, data.size),))


def _counted(first: int, end: int, frame: bytes, contents: Contents | None, count: int) -> Piece:
    """A stream of `count` frames, with the table of contents in its first frame, if there is one, put right."""
    parts, spare = ((first, end),), 0
    if contents and contents.flags & 1 and contents.frames != count - 1:
        parts = (contents.corrected(frame, count - 1, end - first), (first + len(frame), end))
    elif contents and contents.size and contents.size != end - first:
        parts = (_with_size(contents, frame, end - first), (first + len(frame), end))
    if contents is None or not contents.flags & 1:
        spare = count * LONGEST  # enough for any guess from the first frame
    frames = (count - (contents is not None)) * samples_of(frame)
    return Piece(parts, frames=frames if spare else None, spare=spare)


def _verified(data: Data, first: int, end: int, contents: Contents) -> Piece | None:
    """A stream whose table of contents names its bytes, but not its frames; None if it is right about them as well."""
    stop, count = _count(data, first)
    if stop != end or count - 1 == contents.frames:  # damaged inside: libmpg123 finds its way, and the table counts
        return None
    return dataclasses.replace(_counted(first, end, frame_at(data, first), contents, count), mpeg=True)


def _with_size(contents: Contents, frame: bytes, size: int) -> bytes:
    at = contents.at + 8 + 4 * (contents.flags & 1)
    return frame[:at] + struct.pack(">I", size) + frame[at + 4 :]


def _is_plain(data: Data, first: int, end: int) -> bool:
    """Whether frames from `first` to `end` are all there is, but for tags that libsndfile passes over in silence."""
    tag = data.read(0, 10)
    footer = tag[:3] == b"ID3" and tag[5] & 0x10
    last = data.size == end or (data.size == end + 128 and data.read(end, 3) == b"TAG")
    return last and not footer and first == skip_tags(data, 0)


def _ends(data: Data, end: int) -> bool:
    """Whether the file is that long and no frame follows."""
    return end <= data.size and find_frame(data, end) is None


def frame_at(data: Data, at: int) -> bytes:
    """The frame that begins at `at`; 4 bytes if none does."""
    head = data.read(at, 4).ljust(4, b"\0")
    return data.read(at, sizes().get(head[1] << 8 | head[2], 4))


def find_frame(data: Data, begin: int) -> int | None:
    """Offset of the next frame that is followed by one of its kind, or by the end of the file; None if there is none.

    Far from `begin`, as after a damaged region, three frames in a row are required: two may occur by chance.
    """
    begin = skip_tags(data, begin)
    for scanned in (LONGEST, SCANNED):
        if data.size > begin and (place := _first(data, begin, scanned, 2)) is not None:
            return place
    for at in range(begin + SCANNED, data.size, READ):
        if (place := _first(data, at, READ, 3)) is not None:
            return place
    return None


def _first(data: Data, begin: int, scanned: int, frames: int) -> int | None:
    """Offset of the first of `frames` frames in a row (fewer at the end of the file) within `scanned` bytes."""
    block = data.read(begin, scanned + frames * LONGEST)
    for match in CANDIDATE.finditer(block, 0, scanned + 3):
        if _follow(block, match.start(), frames, begin + len(block) == data.size):
            return begin + match.start()
    return None


def _follow(block: bytes, at: int, frames: int, last: bool) -> bool:
    frame_sizes, first = sizes(), block[at : at + 4]
    for _ in range(frames):
        head = block[at : at + 4]
        size = frame_sizes.get(head[1] << 8 | head[2]) if len(head) == 4 and head[0] == 0xFF else None
        if size is None or kind(head) != kind(first):
            return False
        at += size
        if at == len(block) and last:
            return True
    return True


def skip_tags(data: Data, at: int) -> int:
    """The end of the ID3 tags that begin at `at`; `at` if there are none. A tag longer than the file is ignored."""
    while (head := data.read(at, 10))[:3] == b"ID3" and len(head) == 10:
        end = at + 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        end += 10 * (head[5] >> 4 & 1)
        if end > data.size:
            return at
        at = end
    return at


def _count(data: Data, first: int) -> tuple[int, int]:
    """End and number of frames of a stream: up to frames of another kind, a table of contents, or no frame."""
    return remembered(data, "mpeg", first, lambda: _walk(data, first))


def _walk(data: Data, first: int) -> tuple[int, int]:
    base, block, at, count = first, data.read(first, READ), 0, 0
    like, mono = kind(block)[:2], block[3] > 0xBF
    frame_sizes = {key: size for key, size in sizes().items() if (key >> 8 & 0x1E, key & 0x0C) == like}
    tables = _tables(block)
    while True:
        if at + LONGEST > len(block) and base + len(block) < data.size:
            base, block, at = base + at, data.read(base + at, READ), 0
            tables = _tables(block)
        if at + 4 > len(block) or block[at] != 0xFF:
            break
        size = frame_sizes.get(block[at + 1] << 8 | block[at + 2])
        if size is None or at + size > len(block) or (block[at + 3] > 0xBF) != mono:
            break
        if tables and count and not tables.isdisjoint((at + 13, at + 21, at + 36)):
            break
        at, count = at + size, count + 1
    return base + at, count


def _tables(block: bytes) -> set[int]:
    """Where names of tables of contents are, in frames or not."""
    places = set()
    for name in (b"Xing", b"Info", b"VBRI"):  # an expression for all three takes ten times as long
        at = -1
        while (at := block.find(name, at + 1)) >= 0:
            places.add(at)
    return places
