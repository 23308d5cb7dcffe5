"""Kinds of files without readable audio: failed downloads, system files, formats that must be converted."""

from nlm_jax.audio.storage import Data

STARTS = {
    b"\x00\x05\x16\x07": "metadata of macOS next to the real file",
    b"version https://git-lfs": "a pointer of Git LFS; run git lfs pull",
    b"/annex/": "a pointer of git-annex; run git annex get",
    b"PK\x03\x04": "a zip archive; unpack it",
    b"\x1f\x8b": "a gzip archive; unpack it",
    b"\x30\x26\xb2\x75": "Windows Media; convert it to wav or flac",
    b"\x1a\x45\xdf\xa3": "Matroska or WebM; convert it to wav or flac",
    b"MAC ": "Monkey's Audio; convert it to wav or flac",
    b"wvpk": "WavPack; convert it to wav or flac",
    b"#!AMR": "AMR; convert it to wav or flac",
    b"%PDF": "a PDF",
}
PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head")


def content(data: Data) -> str:
    """A description of the content from its first bytes; "" if they are unknown."""
    head = data.read(0, 512)
    if text := next((text for start, text in STARTS.items() if head.startswith(start)), ""):
        return f"the content is {text}"
    if head[:4] == b"OggS":
        return _ogg(data)
    if head[4:8] == b"ftyp":
        return "the content is MP4 or M4A; convert it to wav or flac"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(PAGES):
        return "the content is a web page, as of a failed download"
    if not head:
        return "there is no content"
    return "" if any(head) else "the content is zeros"


def _ogg(data: Data) -> str:
    at, firsts = 0, []
    while (head := data.read(at, 27 + 255))[:6] == b"OggS\0\2" and len(head) > 27:
        body = at + 27 + head[26]
        firsts.append(data.read(body, 8))
        at = body + sum(head[27 : 27 + head[26]])
    if len(firsts) > 1:
        return "the content is several Ogg streams at a time, as of a video; convert the sound to wav or flac"
    if firsts and firsts[0].startswith((b"\x7fFLAC", b"Speex")):
        return f"the content is {'Speex' if firsts[0][:1] == b'S' else 'FLAC'} in Ogg; convert it to wav or flac"
    return ""
