"""Ogg streams that were joined: libsndfile reads the first of them, and loses its way when it seeks."""

from collections.abc import Iterator

from nlm_jax.audio.storage import Data, Piece, remembered

FIRST = b"OggS\x00\x02"
"""The head of a page that begins a stream."""
CODECS = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ")


def pieces(data: Data) -> Iterator[Piece]:
    """The streams of sound in a file; all of it if there is one."""
    starts = remembered(data, "ogg", 0, lambda: list(_all_starts(data)))
    if not starts:
        yield Piece()
    for begin, end in zip([0, *starts], [*starts, data.size], strict=True) if starts else ():
        yield Piece(((begin, end),))


def _all_starts(data: Data) -> Iterator[int]:
    """Offsets of the audio streams after the first page."""
    begin = 1
    while (begin := data.find(FIRST, begin)) > 0:
        head = data.read(begin, 27 + 255 + 8)
        if len(head) > 26 and head[27 + head[26] :].startswith(CODECS):
            yield begin
        begin += 1
