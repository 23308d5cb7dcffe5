"""FLAC whose header has no length or a wrong one, and concatenated streams.

The last frame of a stream says its position. The header's length is used only if both agree.
"""

import dataclasses
from collections.abc import Iterator

from nlm_jax.audio.storage import Data, Piece, remembered

NAME = b"fLaC"
STREAMS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")
"""First bytes of a stream: its name and the head of STREAMINFO, the last block of metadata or not."""
HEADER = 42
"""Bytes of the name and STREAMINFO."""
TAIL = 1 << 18
"""Bytes at the end in which the last frame begins, unless it is enormous."""
SIZES = {1: 192, **{n: 576 << (n - 2) for n in range(2, 6)}, **{n: 256 << (n - 8) for n in range(8, 16)}}
"""Code of a frame's size -> samples; 6 and 7: the size follows."""


def pieces(data: Data, begin: int = 0) -> Iterator[Piece]:
    """The stream at `begin`, and those that are joined to it."""
    next_ = begin
    while next_ >= begin:
        begin = next_
        head = data.read(begin, HEADER)
        if not head.startswith(STREAMS) or len(head) < HEADER:
            yield Piece()
            return
        first = _begin(data, begin, head)
        if not first and _is_length(data, head, data.size):
            yield Piece(((begin, data.size),) if begin else (), bounded=False)
            next_ = _next(data, begin + HEADER)
            continue
        next_ = _next(data, begin + HEADER)
        end = next_ if next_ > 0 else data.size
        if not first and _is_length(data, head, end):
            yield Piece(((begin, end),))
        else:
            yield Piece((unknown_length(head), (begin + HEADER, end)), trusted=False, entered=not first)


def unknown_length(header: bytes) -> bytes:
    """The header without the number of samples: the decoder reads until no frame follows."""
    return header[:21] + bytes([header[21] & 0xF0]) + bytes(4) + header[26:]


def _is_length(data: Data, header: bytes, end: int) -> bool:
    """Whether the header names the number of samples up to `end`."""
    length = int.from_bytes(header[21:26], "big") & 0xFFFFFFFFF
    return length > 0 and _end(data, header, end) == length


def bounded(data: Data, piece: Piece) -> Piece:
    """The piece without the streams after it."""
    begin = piece.parts[0][0] if piece.parts else 0
    next_ = _next(data, begin + HEADER)
    return Piece(((begin, next_),)) if next_ > 0 else dataclasses.replace(piece, bounded=True)


def _next(data: Data, begin: int) -> int:
    """Where the next stream begins; -1 if none does. All bytes are searched, once, unless it is clear without."""
    return remembered(data, "flac", begin, lambda: _search(data, begin))


def _search(data: Data, begin: int) -> int:
    if _is_one(data, begin - HEADER):
        return -1
    at = data.find(NAME, begin)
    while at > 0 and not data.read(at, 8).startswith(STREAMS):
        at = data.find(NAME, at + 1)
    return at


def _begin(data: Data, begin: int, header: bytes) -> int | None:
    """The number of the first sample, not 0 in what was cut from another stream; None if no frame is there."""
    at, last = begin + 4, False
    while not last and len(block := data.read(at, 4)) == 4:
        at, last = at + 4 + int.from_bytes(block[1:], "big"), block[0] >= 0x80
    place = frame_span(data.read(at, 16), header)
    return place and place[0]


def _is_one(data: Data, begin: int) -> bool:
    """Whether the last frame ends where the header says, and frames at many places before are in order.

    Numbers restart in a joined stream, which in addition must be as long as the first to go unnoticed here.
    """
    head, size = data.read(begin, HEADER), data.size - begin
    tail = max(begin + HEADER, data.size - TAIL)
    if size < 16 * TAIL or not _is_length(data, head, data.size) or NAME in data.read(tail, TAIL):
        return False
    near = [size >> n for n in range(2, size.bit_length() - TAIL.bit_length())]
    places = sorted({*range(size // 32, size - TAIL, size // 32), *near, *(size - n for n in near)})
    last, resume_at = -1, 0
    for place in places:
        if place < resume_at:  # it may be the same frame
            continue
        number, resume_at = _number(data, begin + place, head), place + TAIL // 4
        if number is None or number <= last:
            return False
        last = number
    return True


def _number(data: Data, begin: int, header: bytes) -> int | None:
    """The number of the first sample of the next frame; None if none is near."""
    block, at = data.read(begin, TAIL // 4), -1
    while (at := block.find(b"\xff", at + 1)) >= 0:
        if (place := frame_span(block[at : at + 16], header)) is not None:
            return place[0]
    return None


def _end(data: Data, header: bytes, end: int) -> int | None:
    """The number of the sample after the last frame before `end`; None if no frame is there."""
    tail = data.read(max(HEADER, end - TAIL), min(TAIL, end - HEADER))
    at = len(tail)
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        if (place := frame_span(tail[at : at + 16], header)) is not None:
            return sum(place)
    return None


def frame_span(frame: bytes, header: bytes) -> tuple[int, int] | None:
    """The number of a frame's first sample, and its samples; None if it is none of this stream."""
    if len(frame) < 6 or frame[0] != 0xFF or frame[1] & 0xFE != 0xF8 or (read := _frame(frame)) is None:
        return None
    smallest, largest = int.from_bytes(header[8:10], "big"), int.from_bytes(header[10:12], "big")
    number, samples = read
    if frame[1] & 1:
        return number, samples
    return None if samples > largest else (number * (smallest if smallest == largest else largest), samples)


def _frame(frame: bytes) -> tuple[int, int] | None:
    """Its number (of its first sample, if sizes vary), and its samples; None unless the header's checksum is right."""
    size, rate = frame[2] >> 4, frame[2] & 15
    ones = next((n for n in range(8) if not frame[4] & (0x80 >> n)), 8)
    if not size or rate == 15 or ones in (1, 8):
        return None
    more = max(0, ones - 1)
    number = frame[4] & (0x7F >> ones)
    for byte in frame[5 : 5 + more]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    at, samples = 5 + more, SIZES.get(size, 0)
    if size in (6, 7):
        samples = int.from_bytes(frame[at : at + size - 5], "big") + 1
        at += size - 5
    at += {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if at >= len(frame) or crc8(frame[:at]) != frame[at]:
        return None
    return number, samples


def crc8(data: bytes) -> int:
    """The checksum of a frame's header, of the polynomial x^8 + x^2 + x + 1."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc
