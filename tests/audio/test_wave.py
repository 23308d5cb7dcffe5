"""Decoding, channels, resampling, cutting; every promised format, and every way a file can be bad."""

import json

import numpy as np
import pytest
import soundfile

from nlm_jax.audio import wave
from nlm_jax.core.errors import UserError


def tone(rate, seconds, hz=440.0, channels=1):
    t = np.arange(round(rate * seconds)) / rate
    x = 0.4 * np.sin(2 * np.pi * hz * t)
    return x if channels == 1 else np.stack([x * (1 + 0.5 * (-1) ** c) for c in range(channels)], axis=1)


# largest error of a 0.4 sine: 16-bit rounding and resampling; what the lossy codecs do (mp3 worst, at 8 kHz)
FORMATS = [("wav", "PCM_16", 2e-4), ("wav", "FLOAT", 2e-4), ("flac", "PCM_16", 2e-4)]
FORMATS += [("ogg", "VORBIS", 0.03), ("mp3", "MPEG_LAYER_III", 0.06)]


@pytest.mark.parametrize(("kind", "subtype", "error"), FORMATS)
@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (44100, 2), (8000, 1), (48000, 2), (22050, 1)])
def test_formats_and_rates(tmp_path, kind, subtype, error, rate, channels):
    path = tmp_path / f"x.{kind}"
    soundfile.write(path, tone(rate, 1.5, channels=channels), rate, subtype=subtype)
    meta = wave.info(path)
    assert (meta.rate, meta.channels) == (rate, channels)
    result = wave.load(path)
    assert result.dtype == np.float32
    assert result.shape == (meta.frames * 16000 // rate,)
    want = tone(16000, 1.5)
    middle = slice(4000, 20000)  # away from the edges, where codecs and filters ring
    assert np.abs(result[middle] - want[middle]).max() < error


@pytest.mark.parametrize(
    ("kind", "rate"), [("wav", 44100), ("flac", 48000), ("ogg", 22050), ("mp3", 44100), ("wav", 44099)]
)
def test_a_part_equals_the_part_of_the_whole(tmp_path, kind, rate):
    path = tmp_path / f"x.{kind}"
    noise = np.random.default_rng(0).normal(scale=0.1, size=(rate * 4, 2))
    soundfile.write(path, noise, rate)
    whole = wave.load(path)
    for start, seconds in ((0.0, 1.0), (1.25, 1.5), (2.00013, 0.5), (3.5, 5.0)):
        first = round(start * 16000)
        want = whole[first : first + round(seconds * 16000)]
        result = wave.load(path, start=start, seconds=seconds)
        n = min(len(result), len(want))  # the very end of a file may differ by a sample
        assert abs(len(result) - len(want)) <= 1
        inner = slice(0, n - 1600 if start + seconds > 4 else n)
        np.testing.assert_allclose(result[inner], want[inner], atol=2e-5)


def test_reference_processor(golden):
    """Prepared audio of the official processor, which uses another resampler (resampy).

    Measured with HQ: root mean square difference 5e-6 against a signal of 0.014 (stereo), 9e-6 against 0.006 (mono);
    largest sample 1.3e-4. White noise at 48 kHz has a tenth of its kept energy in the transition band, where the
    filters differ by design: root mean square difference 0.032 against 0.195.
    """
    arrays = np.load(golden / "processor.npz")
    for name, rms_bound in (("stereo", 7e-6), ("mono", 1.2e-5)):
        want = arrays[f"{name}__prepared"]
        for result in (
            wave.fit(wave.load(golden / "wav" / f"{name}.wav"), int(arrays[f"{name}__n_total"])),
            wave.prepare(*soundfile.read(golden / "wav" / f"{name}.wav"), samples=int(arrays[f"{name}__n_total"])),
        ):
            assert result.shape == (arrays[f"{name}__n_total"],)
            assert not result[len(want) :].any()
            assert np.abs(result[: len(want)] - want).max() < 1.5e-4
            assert np.sqrt(np.mean((result[: len(want)] - want) ** 2)) < rms_bound
    want = arrays["noise_2ch_48k__prepared"]
    result = wave.prepare(arrays["noise_2ch_48k"].astype(np.float64), 48000)
    assert result.shape == want.shape
    assert np.sqrt(np.mean((result - want) ** 2)) < 0.035
    low = lambda x: np.fft.rfft(x)[: int(0.8 * x.size / 2)]  # noqa: E731  below 6.4 kHz the filters are flat
    ours, theirs = low(result[:16000]), low(want)
    assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < 0.01


def test_reference_dataset_at_16_khz_is_exact(golden, tmp_path):
    """The official dataset's batch: 16-bit files at 16 kHz, channels averaged, cut or padded to 2 s from the start."""
    arrays = np.load(golden / "dataprep.npz")
    order = json.loads((golden / "dataprep.json").read_text())["dataset"]["order"]
    names = [name for entry in order for name in (entry if isinstance(entry, list) else [entry])]
    for row, name in zip(arrays["dataset__batch_raw_wav"], names, strict=True):
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, arrays[f"dataset__{name}__int16"], 16000)
        result = wave.fit(wave.load(path, seconds=2.0), 32000)
        np.testing.assert_array_equal(result, row)


def test_channels_lie_on_the_shorter_axis():
    x = np.random.default_rng(0).normal(scale=0.1, size=(2, 500)).astype(np.float32)
    np.testing.assert_array_equal(wave.prepare(x), x.mean(0))
    np.testing.assert_array_equal(wave.prepare(x.T), x.mean(0))


def test_clamped_cut_and_padded(tmp_path):
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.r_[np.zeros(95), np.full(5, 3.0)], 16000, subtype="FLOAT")
    assert wave.load(path).max() == 1.0
    assert wave.prepare(np.full(100, -2.0), samples=150).tolist() == [-1.0] * 100 + [0.0] * 50
    assert wave.fit(np.arange(5.0, dtype=np.float32), 3, start=3).tolist() == [3.0, 4.0, 0.0]


def test_quality_is_selectable():
    x = np.random.default_rng(0).normal(scale=0.1, size=4410).astype(np.float32)
    high, very_high = (wave.resample(x, 44100, quality) for quality in ("HQ", "VHQ"))
    assert 0 < np.abs(high - very_high).max() < 0.05


def test_bad_files(tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.mp3").write_text("this is no music " * 50)
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "short.wav", np.zeros(16000), 16000)
    for name, words in (
        ("absent.wav", "no such file"),
        ("empty.wav", "empty"),
        ("text.mp3", "not readable audio"),
        ("none.wav", "no audio samples"),
        ("nan.wav", "NaN"),
        (".", "not a file"),
    ):
        with pytest.raises(UserError, match=words) as error:
            wave.load(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)
    with pytest.raises(UserError, match=r"short\.wav.* 5\.00 s"):
        wave.load(tmp_path / "short.wav", start=5.0)
    with pytest.raises(UserError, match=r"clip 7: not readable"):
        wave.load(b"garbage", name="clip 7")


def test_bad_arrays():
    for array, words in (
        (np.zeros((1, 2, 3)), "shape"),
        (np.zeros(0), "no audio"),
        (np.array([np.inf]), "infinite"),
        (np.zeros(4, np.int16), "divide"),
    ):
        with pytest.raises(UserError, match=words):
            wave.prepare(array)
