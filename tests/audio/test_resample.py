"""Resampling to 16 kHz: the reference's filter against resampy and the official processor; parts; soxr."""

import json
import pathlib

import numpy as np
import pytest
import soundfile

from nlm_jax.audio import wave
from nlm_jax.audio.resample import kaiser_best, resample

RESAMPY = json.loads(pathlib.Path(__file__).with_name("resampy.json").read_text())
"""Rate -> outputs of resampy 0.4.3 (kaiser_best, float64) at some places, for `chirp` of so many samples."""


def chirp(samples):
    """Sound in all bands, above half of 16 kHz too."""
    i = np.arange(samples)
    return 0.5 * np.sin(1e-3 * i * i) + 0.2 * np.cos(2.7 * i)


@pytest.mark.parametrize("rate", [int(rate) for rate in RESAMPY])
def test_kaiser_best_is_resampys(rate):
    want = RESAMPY[str(rate)]
    assert want["length"] == want["samples"] * 16_000 // rate
    actual = kaiser_best(chirp(want["samples"]), rate, want["length"])
    np.testing.assert_allclose(actual[want["places"]], want["values"], rtol=0, atol=2e-11)


def test_the_official_processor(golden):
    """Its arrays to float32 rounding: two recordings at 44.1 kHz, noise at 48 kHz. soxr's HQ is far from the last."""
    arrays = np.load(golden / "processor.npz")
    for name in ("stereo", "mono"):
        want = arrays[f"{name}__prepared"]
        file, total = golden / "wav" / f"{name}.wav", int(arrays[f"{name}__n_total"])
        for result in (
            wave.fit(wave.load(file, quality="kaiser_best"), total),
            wave.prepare(*soundfile.read(file), samples=total, quality="kaiser_best"),
        ):
            np.testing.assert_allclose(result[: len(want)], want, rtol=0, atol=1e-8)
            assert not result[len(want) :].any()
    noise, want = arrays["noise_2ch_48k"].astype(np.float64), arrays["noise_2ch_48k__prepared"]
    np.testing.assert_allclose(wave.prepare(noise, 48_000, quality="kaiser_best"), want, rtol=0, atol=6e-8)
    assert np.abs(wave.prepare(noise, 48_000) - want).max() > 0.1


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 47_999, 48_000, 250_000])
def test_a_part_lies_on_the_grid_of_the_whole(tmp_path, rate):
    """Windows of a long recording are the windows of the whole, resampled at once."""
    noise = np.random.default_rng(0).normal(scale=0.1, size=round(rate * 1.5))
    soundfile.write(tmp_path / "x.wav", noise, rate, subtype="FLOAT")
    whole = wave.load(tmp_path / "x.wav", quality="kaiser_best")
    for start, seconds in ((0.0, 0.3), (0.40007, 0.3), (1.1, 1.0)):
        first = round(start * 16_000)
        want = whole[first : first + round(seconds * 16_000)]
        result = wave.load(tmp_path / "x.wav", start, seconds, "kaiser_best")
        assert abs(len(result) - len(want)) <= 1
        np.testing.assert_allclose(result[: len(want)], want[: len(result)], rtol=0, atol=1e-7)


def test_a_tone_in_the_band_stays_and_one_above_goes():
    """Without any other library: what lies below 7 kHz passes within 0.01 dB, what lies above 8 kHz does not fold."""
    t = np.arange(48_000) / 48_000
    middle = slice(4_000, 12_000)
    filtered = resample(np.sin(2 * np.pi * 3_000 * t), 48_000, "kaiser_best")[middle]
    np.testing.assert_allclose(filtered, np.sin(2 * np.pi * 3_000 * np.arange(16_000) / 16_000)[middle], atol=1e-3)
    assert np.abs(resample(np.sin(2 * np.pi * 9_000 * t), 48_000, "kaiser_best")[middle]).max() < 1e-4


@pytest.mark.parametrize("quality", ["HQ", "kaiser_best"])
def test_short_waves(quality):
    for rate, samples in ((8_000, 1), (44_100, 1), (44_100, 3), (384_000, 20), (384_000, 30)):
        actual = resample(np.full(samples, 0.1), rate, quality)
        assert actual.dtype == np.float32
        assert actual.shape == (max(1, samples * 16_000 // rate),)
        assert np.isfinite(actual).all()
