"""Recordings whose headers are wrong, that consist of several streams, or that are damaged: what decodes is read."""

import io
import os
import struct

import numpy as np
import pytest
import soundfile
from streams import RATE, encoded, plain, read, sound

from nlm_jax.audio import mpeg, wave
from nlm_jax.audio.storage import Data
from nlm_jax.audio.stream import Stream
from nlm_jax.core.errors import UserError


def without_table(mp3):
    """An MP3 without its first frame, which holds the table of contents."""
    data = Data(mp3)
    first = mpeg.find_frame(data, 0)
    assert mpeg.Contents.of(mpeg.frame_at(data, first))
    return mp3[first + len(mpeg.frame_at(data, first)) :]


def test_flac_of_unknown_length():
    flac = encoded(sound(3.0), "FLAC")
    streamed = flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]
    assert soundfile.info(io.BytesIO(streamed)).frames > 1 << 60
    assert wave.info(streamed).frames == 48_000
    np.testing.assert_array_equal(read(streamed), plain(flac))
    np.testing.assert_array_equal(wave.load(streamed, 2.5, 5.0), wave.load(flac, 2.5, 5.0))


@pytest.mark.parametrize("claimed", [96_000, 24_000, 48_001])
def test_flac_that_claims_another_length(claimed):
    """Twice the length is what a recorder writes; half of it hides what is there."""
    flac = encoded(sound(3.0), "FLAC")
    wrong = flac[:21] + bytes([flac[21] & 0xF0]) + struct.pack(">I", claimed) + flac[26:]
    assert soundfile.info(io.BytesIO(wrong)).frames == claimed
    assert wave.info(wrong).frames == 48_000
    np.testing.assert_array_equal(read(wrong), plain(flac))


def test_truncated_flac_is_read_to_the_damage():
    flac = encoded(sound(6.0), "FLAC")
    info = wave.info(flac[: len(flac) * 7 // 10])
    assert 3.0 < info.seconds < 5.0
    assert info.notice.startswith(f"damaged after {info.seconds:.2f} s")
    part = flac[: len(flac) * 7 // 10]
    np.testing.assert_array_equal(read(part), plain(flac)[: info.frames])
    with pytest.raises(wave.PastEnd):
        wave.load(part, start=5.5, seconds=0.2)


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "OPUS", "MP3", "WAV"])
@pytest.mark.parametrize("lengths", [(2.0, 2.0), (1.0, 2.5, 0.5)])
def test_joined_streams_are_read_to_their_end(kind, lengths):
    options = {"format": "OGG", "subtype": "OPUS"} if kind == "OPUS" else {"format": kind}
    streams = []
    for seed, seconds in enumerate(lengths):
        out = io.BytesIO()
        soundfile.write(out, sound(seconds, 48_000, seed), 48_000, **options)
        streams.append(out.getvalue())
    joined = b"".join(streams)
    expected = np.concatenate([plain(stream) for stream in streams])
    assert wave.info(joined).frames == len(expected)
    np.testing.assert_allclose(read(joined), expected, atol=1e-6)
    stream, rng = Stream(Data(joined)), np.random.default_rng(0)
    for begin in (*rng.integers(0, len(expected) - 100, 12).tolist(), round(lengths[0] * 48_000) - 50):
        stream._last = None  # no help from the part before
        np.testing.assert_allclose(stream.read(begin, 4_000), expected[begin : begin + 4_000], atol=2e-3)


def test_joined_streams_of_other_rates_are_named():
    joined = encoded(sound(1.0), "FLAC") + encoded(sound(1.0, 8_000), "FLAC", 8_000)
    info = wave.info(joined)
    assert info.seconds == 1.0
    assert info.notice == "1 of several joined streams read: the next has 8000 Hz, not 16000"


@pytest.mark.parametrize("rate", [44_100, 16_000])
def test_mp3_without_a_table_of_contents(rate):
    """libsndfile guesses its length from the first, quiet frame."""
    mp3 = encoded(sound(8.0, rate), "MP3", rate)
    bare = without_table(mp3)
    whole, delay = plain(mp3), len(read(bare)) - len(plain(mp3))
    result = read(bare)
    assert wave.info(bare).frames == len(result) >= 8 * rate
    best = min(
        range(delay + 1), key=lambda lag: np.abs(result[lag + rate : lag + 2 * rate] - whole[rate : 2 * rate]).sum()
    )
    np.testing.assert_allclose(result[best : best + len(whole)], whole, atol=1e-5)


@pytest.mark.parametrize(("front", "back"), [(b"ID3\x04\0\0\0\0\x02\x01" + bytes(257), b"TAG" + bytes(125)),
                                             (b"", bytes(5_000)), (b"", b"APETAGEX" + bytes(400))])  # fmt: skip
def test_mp3_with_tags(front, back, capfd):
    mp3 = encoded(sound(3.0, 44_100), "MP3", 44_100)
    for data in (mp3, without_table(mp3)):
        np.testing.assert_array_equal(read(front + data + back), read(data))
        assert wave.info(front + data + back) == wave.info(data)
    assert "mpg123" not in capfd.readouterr().err


def test_truncated_mp3_is_read_to_its_end(capfd):
    mp3 = encoded(sound(6.0, 44_100), "MP3", 44_100)
    result = read(mp3[: len(mp3) // 2])
    assert 1.0 < len(result) / 44_100 < 5.9
    assert wave.info(mp3[: len(mp3) // 2]).frames == len(result)
    np.testing.assert_allclose(result[:-2304], plain(mp3)[: len(result) - 2304], atol=1e-6)
    assert capfd.readouterr().err == ""


def test_an_mp3_is_entered_in_the_middle_without_noise(tmp_path, capfd):
    """At low bit rates frames need bits of many frames before them."""
    path = tmp_path / "a.mp3"
    soundfile.write(path, sound(8.0, 24_000), 24_000, compression_level=0.99, bitrate_mode="CONSTANT")
    expected = read(path.read_bytes())
    for start in (6.25, 1.0, 7.5, 3.75):
        first = round(start * 24_000)
        samples = wave.resample(expected[first - 2_400 : first + 7_200], 24_000)[1_600:4_800]
        np.testing.assert_allclose(wave.load(path, start, 0.2), samples, atol=1e-5)
    assert "mpg123" not in capfd.readouterr().err


def sized(wav, size, riff=None, back=b""):
    """A WAV with another size of its samples (and of all)."""
    at = wav.find(b"data") + 4
    head = wav[:4] + (wav[4:8] if riff is None else struct.pack("<I", riff)) + wav[8:at]
    return head + struct.pack("<I", size) + wav[at + 4 :] + back


def test_wav_with_a_size_that_is_too_small():
    wav = encoded(sound(3.0), "WAV", subtype="PCM_16")
    for bad in (sized(wav, 0), sized(wav, 0, 0), sized(wav, 1_000), sized(wav, 1_000, 1_036), sized(wav, 0xFFFFFFFF)):
        np.testing.assert_array_equal(read(bad), plain(wav))


def test_what_is_behind_the_samples_of_a_wav_is_not_read():
    wav = encoded(sound(1.0), "WAV", subtype="PCM_16")
    size = 32_000
    chunks = (
        b"LIST" + struct.pack("<I", 40_000) + b"INFO" + bytes(39_996) + b"guan" + struct.pack("<I", 7) + b"a|b|c\n\0\0"
    )
    for back in (chunks, b"ID3" + os.urandom(60_000), b"\x01" * 3_000, bytes(100_000)):
        assert wave.info(sized(wav, size, back=back)).frames == RATE
    assert wave.info(sized(wav, 0, back=b"")[: wav.find(b"data") + 8] + chunks + bytes(1)).frames == 0


def test_wav_beyond_4_gib(tmp_path):
    """The size has wrapped; the file is sparse."""
    path, block = tmp_path / "long.wav", encoded(sound(1.0), "WAV", subtype="PCM_16")
    with path.open("wb") as out:
        out.write(sized(block, (1 << 32) - (1 << 32) + 32_000))
        for at in (1 << 31, (1 << 32) + 4_096):
            out.seek(at)
            out.write(b"\x11\x22" * 4_096)
    begin = block.find(b"data") + 8
    total = (path.stat().st_size - begin) // 2
    assert soundfile.info(path).frames == RATE
    assert wave.info(path).frames == total
    result = wave.load(path, ((1 << 31) - begin) / 2 / RATE, 0.05)
    np.testing.assert_array_equal(result, np.full(800, 0x2211 / 32_768, np.float32))


@pytest.mark.parametrize(("kind", "name", "form", "sizes"), [
    ("AU", b".snd", ">I", (0, 48_000)), ("CAF", b"data", ">Q", (0, 48_004, 2**64 - 1)),
    ("AIFF", b"SSND", ">I", (0, 48_008)),
])  # fmt: skip
def test_other_containers_with_a_wrong_size(kind, name, form, sizes):
    good = encoded(sound(3.0), kind, subtype="PCM_16", endian="BIG" if kind == "AU" else "FILE")
    at = good.find(name) + (8 if kind == "AU" else 4)
    for size in sizes:
        bad = good[:at] + struct.pack(form, size) + good[at + struct.calcsize(form) :]
        np.testing.assert_array_equal(read(bad), plain(good))


def test_rf64_that_was_never_closed():
    good = encoded(sound(3.0), "RF64", subtype="PCM_16")
    at = good.find(b"ds64") + 16
    np.testing.assert_array_equal(read(good[:at] + bytes(8) + good[at + 8 :]), plain(good))


def test_gsm_cannot_be_sought():
    """Windows of it are read one after the other, and again."""
    gsm = encoded(sound(4.0, 8_000), "WAV", 8_000, subtype="GSM610")
    with wave.Recording(gsm, "a.wav") as recording:
        parts = [recording.part(start, 1.0).wave for start in (0.0, 1.0, 2.5, 0.5)]
    for start, part in zip((0.0, 1.0, 2.5, 0.5), parts, strict=True):
        np.testing.assert_allclose(part, wave.load(gsm, start, 1.0), atol=1e-6)
    assert np.abs(parts[2]).max() > np.abs(parts[0]).max()


@pytest.mark.parametrize("rate", [1, 50, 1_500_000])
def test_rates_that_cannot_be(rate, tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, sound(0.5), rate)
    for call in (wave.load, wave.info):
        with pytest.raises(UserError, match=rf"a\.wav: a sampling rate of {rate} Hz"):
            call(path)
    with pytest.raises(UserError, match="sampling rate"):
        wave.prepare(sound(0.5), rate)


def test_memory_does_not_grow_with_channels(monkeypatch):
    """At most a block of all channels is decoded at a time."""
    sizes, real = [], soundfile.SoundFile.buffer_read_into

    def reading(self, buffer, dtype):
        sizes.append(buffer.size)
        return real(self, buffer, dtype)

    monkeypatch.setattr(soundfile.SoundFile, "buffer_read_into", reading)
    many = np.repeat(sound(5.0, 96_000)[:, None], 64, axis=1)
    np.testing.assert_allclose(read(encoded(many, "WAV", 96_000, subtype="PCM_16")), many[:, 0], atol=1e-4)
    assert max(sizes) <= 1 << 18


def test_what_is_not_finite_is_refused_before_and_after_the_mean(tmp_path):
    for name, samples in (
        ("nan", [[0.0, np.nan]] * 99),
        ("inf", [[np.inf, -np.inf]] * 99),
        ("sum", [[3e38, 3e38]] * 99),
    ):
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, np.array(samples), 44_100, subtype="FLOAT")
        with pytest.raises(UserError, match=f"{name}.wav: .*(NaN or infinite|full scale)"):
            wave.load(path)
    with pytest.raises(UserError, match="where full scale is 1"):
        wave.prepare(np.full((2, 4_000), 3e38, np.float32), 44_100)


def test_one_channel(tmp_path):
    both = np.stack([sound(1.0), sound(1.0, seed=1)], axis=1)
    soundfile.write(tmp_path / "st.wav", both, RATE, subtype="FLOAT")
    for channel in (1, 2):
        np.testing.assert_array_equal(wave.load(tmp_path / "st.wav", channel=channel), both[:, channel - 1])
    joined = encoded(both, "FLAC") + encoded(sound(0.5), "FLAC")
    np.testing.assert_array_equal(read(joined, channel=2)[RATE:], plain(encoded(sound(0.5), "FLAC")))
    with pytest.raises(UserError, match=r"st\.wav: has 2 channels, no channel 3"):
        wave.load(tmp_path / "st.wav", channel=3)


def test_properties_of_a_partial_file(tmp_path):
    soundfile.write(
        tmp_path / "bat.wav", 0.2 * np.sin(2 * np.pi * 45_000 / 192_000 * np.arange(192_000)) + 0.3, 192_000
    )
    soundfile.write(tmp_path / "owl.wav", 0.2 * np.sin(2 * np.pi * 500 / 48_000 * np.arange(48_000)), 48_000)
    bat, owl = (wave.part(tmp_path / f"{name}.wav", 0.0, 0.5) for name in ("bat", "owl"))
    assert (bat.rate, bat.is_ultrasound, bat.continues) == (192_000, True, True)
    assert (owl.rate, owl.is_ultrasound, owl.continues) == (48_000, False, True)
    assert not wave.part(tmp_path / "owl.wav", 0.5, 0.5).continues


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\x00\x05\x16\x07" + bytes(60), "metadata of macOS"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\0\0\0\x20ftypM4A " + bytes(99), "M4A; convert"),
        (bytes(4_000), "zeros"),
        (b"something else" * 99, "(no known format|not recognised)"),
    ],
)
def test_content_that_is_no_audio_is_named(tmp_path, capfd, content, words):
    for name in ("a.mp3", "a.wav"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}: not readable audio .*{words}"):
            wave.load(tmp_path / name)
    assert capfd.readouterr().err == ""


def test_one_sample_is_no_recording():
    with pytest.raises(UserError, match="holds only 1 samples, less than a millisecond"):
        wave.load(encoded(np.ones(1) / 2, "WAV"), name="a.wav")


def test_a_name_that_is_not_utf_8(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    soundfile.write(os.fsencode(path), sound(1.0), RATE, format="WAV")
    assert wave.load(path).shape == (RATE,)
    with pytest.raises(UserError, match=r"caf\\xe8\.wav: no such file"):
        wave.load(tmp_path / os.fsdecode(b"caf\xe8.wav"))
