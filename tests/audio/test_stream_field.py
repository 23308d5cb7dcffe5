"""Recordings as they come from cutting, joining and damage: wrong counts, foreign numbers, holes, low rates."""

import io
import re
import struct

import numpy as np
import pytest
import soundfile
from streams import encoded, plain, read, sound

from nlm_jax.audio import flac, wave
from nlm_jax.audio.storage import Data
from nlm_jax.audio.stream import Stream, pieces
from nlm_jax.core.errors import UserError


def listed(mp3, frames, factor):
    """An MP3 whose table of contents names another number of frames, but its bytes rightly."""
    at = max(mp3.find(b"Xing", 0, 4096), mp3.find(b"Info", 0, 4096))
    return mp3[: at + 8] + struct.pack(">I", min(int(frames * factor), 2**32 - 1)) + mp3[at + 12 :]


@pytest.mark.parametrize("factor", [0.5, 0.9, 2.0, 1e6, 0])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_a_table_of_contents_with_a_wrong_number_of_frames(factor, mode):
    mp3 = encoded(sound(6.0, 44_100), "MP3", 44_100, bitrate_mode=mode)
    wrong, right = listed(mp3, len(plain(mp3)) / 1152, factor), plain(mp3)
    assert abs(soundfile.info(io.BytesIO(wrong)).duration - 6.0) > 0.1
    frames = wave.info(wrong).frames
    assert frames == len(read(wrong))
    assert len(right) <= frames < len(right) + 2304  # what the encoder appended is no longer left out
    np.testing.assert_allclose(read(wrong)[: len(right)], right, atol=1e-6)
    np.testing.assert_allclose(wave.load(wrong, 4.5, 1.0), wave.load(mp3, 4.5, 1.0), atol=1e-5)


@pytest.mark.parametrize("hole", [bytes(300_000), np.random.default_rng(0).bytes(300_000)])
def test_an_mp3_continues_after_a_gap(hole, capfd):
    """A card lost sectors, a download was never finished."""
    mp3 = encoded(sound(8.0, 44_100), "MP3", 44_100)
    result = read(mp3[: len(mp3) // 2] + hole + mp3[len(mp3) // 2 :])
    assert abs(len(result) - 8.0 * 44_100) < 4 * 1152
    expected = plain(mp3)[-66_150:-22_050]
    lags = [np.abs(result[-66_150 - lag :][: len(expected)] - expected).max() for lag in range(4 * 1152)]
    assert min(lags) < 1e-4
    assert "mpg123" not in capfd.readouterr().err


def test_an_id3_tag_that_claims_more_than_the_file():
    mp3 = encoded(sound(2.0, 44_100), "MP3", 44_100)
    np.testing.assert_allclose(read(b"ID3\x03\0\0\x7f\x7f\x7f\x7f" + mp3), read(mp3), atol=1e-6)


def test_flac_that_was_cut_from_a_longer_one():
    """As by `ffmpeg -f segment`: frames have their old numbers, and the header the length of what they come from."""
    data = encoded(sound(6.0), "FLAC")
    frames = {
        match.start(): flac.frame_span(data[match.start() :][:16], data) for match in re.finditer(b"\xff\xf8", data)
    }
    at, first = next((at, place[0]) for at, place in frames.items() if place and place[0] > 30_000)
    head = data[: data.index(b"\xff\xf8")]
    for header in (head, flac.unknown_length(head[:42]) + head[42:]):
        cut = header + data[at:]
        assert wave.info(cut).frames == 96_000 - first
        np.testing.assert_array_equal(read(cut), plain(data)[first:])
        for begin in (50_000, 1_000, 20_000):
            result = Stream(Data(cut)).read(begin, 500)
            np.testing.assert_array_equal(result, plain(data)[first + begin :][:500])


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF"])
def test_very_many_joined_streams(kind):
    joined = encoded(sound(0.01), kind) * 1_100
    assert len(list(pieces(Data(joined)))) == 1_100


def test_rf64_whose_sizes_say_nothing():
    data = encoded(sound(1.0), "RF64", subtype="PCM_16")
    expected = plain(data)
    sizes = data.index(b"ds64") + 8
    np.testing.assert_array_equal(read(b"BW64" + data[4:]), expected)
    np.testing.assert_array_equal(read(data[:sizes] + b"\xff" * 24 + data[sizes + 24 :]), expected)


@pytest.mark.parametrize("rate", [100, 250, 1_000, 8_000])
def test_parts_at_low_rates_have_no_edges(rate):
    """Filters are as long as 128 samples of the source, which may be more than a second."""
    data = encoded(
        np.random.default_rng(0).uniform(-0.5, 0.5, 20 * rate).astype(np.float32), "WAV", rate, subtype="FLOAT"
    )
    whole = wave.load(data)
    for start in (3.0, 10.0, 16.5):
        np.testing.assert_allclose(wave.load(data, start, 2.0), whole[round(start * 16_000) :][:32_000], atol=1e-5)


def test_flac_is_read_on_behind_damage():
    """Behind it, times are what they were; there is silence in between."""
    data, samples = encoded(sound(12.0), "FLAC"), plain(encoded(sound(12.0), "FLAC"))
    middle = len(data) // 2
    bad = data[:middle] + bytes(2_000) + data[middle + 2_000 :]
    stream = Stream(Data(bad))
    result = stream.read(0)
    assert len(result) == len(samples)
    wrong = np.flatnonzero(result != samples)
    first, last = int(wrong[0]), int(wrong[-1])
    assert 0 < last - first < 1 << 14
    assert not result[wrong].any()
    assert stream.notice.startswith(f"damaged from {first / 16_000:.2f} to ")
    for begin in (100_000, first - 500, first + 500, last - 10, 170_000, 3_000):
        np.testing.assert_array_equal(Stream(Data(bad)).read(begin, 4_000), result[begin : begin + 4_000])
        np.testing.assert_array_equal(stream.read(begin, 4_000), result[begin : begin + 4_000])
    assert not wave.part(bad, 0.0, 2.0).notice


def test_an_ogg_with_a_hole_says_so():
    data = encoded(sound(12.0), "OGG")
    middle = len(data) // 2
    part = wave.part(data[:middle] + np.random.default_rng(0).bytes(9_000) + data[middle + 9_000 :])
    assert part.wave.size < 11.9 * 16_000
    assert part.notice.startswith("damaged inside: ")


def page(first, body, serial=b"abcd"):
    return b"OggS\0" + (b"\2" if first else b"\0") + bytes(8) + serial + bytes(8) + bytes([1, len(body)]) + body


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (page(True, b"\x80theora..") + page(True, b"\x01vorbis..", b"efgh") + page(False, b"x"), "several Ogg streams"),
        (page(True, b"\x7fFLAC...") + page(False, b"x"), "FLAC in Ogg"),
        (encoded(sound(0.1), "WAV")[:24] + bytes(8) + encoded(sound(0.1), "WAV")[32:], "no sampling rate"),
    ],
)
def test_what_libsndfile_does_not_read_is_named(content, words):
    with pytest.raises(UserError, match=words):
        wave.load(content)


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_bytes_of_a_flac_are_searched_only_if_frames_are_out_of_order(monkeypatch, copies):
    """Joined copies are as long as the last frame says: only what lies between tells them from one stream."""
    monkeypatch.setattr(flac, "TAIL", 1 << 15)
    one = encoded(sound(40.0), "FLAC")
    assert len(one) > 16 * flac.TAIL
    data, searches = Data(one * copies), []
    find = data.find
    monkeypatch.setattr(data, "find", lambda *args: searches.append(args) or find(*args))
    assert len(list(pieces(data))) == copies
    assert bool(searches) == (copies > 1)
