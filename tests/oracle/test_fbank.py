"""The filter bank against the official arrays, Kaldi itself, and float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from nlm_jax.audio.fbank import fbank, log_mel_energies, mel_filterbank, povey_window

CLIPS = ("clip_2s", "clip_4p7s", "clip_10s", "clip_6p3s_padded_to_10s")


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("kind", ["f32", "f64_cast_f32"])
def test_official_features(arrays, clips, limit, clip, kind):
    ours = np.asarray(fbank(jnp.asarray(clips(clip))[None])[0])
    assert np.abs(ours - arrays("fbank")[f"{clip}__{kind}"]).max() < 10 * limit.input_noise["fbank"][clip]


@pytest.mark.parametrize("clip", CLIPS)
def test_no_further_from_float64_than_the_reference(arrays, clips, clip):
    exact, official = (arrays("fbank")[f"{clip}__{kind}"] for kind in ("f64_cast_f32", "f32"))
    ours = np.asarray(fbank(jnp.asarray(clips(clip))[None])[0])
    assert np.abs(ours - exact).max() < 3 * np.abs(official - exact).max() + 1e-5


def test_windows_and_filters(arrays):
    np.testing.assert_allclose(mel_filterbank(), arrays("fbank")["mel_filterbank"], atol=2e-5)  # theirs is float32 math
    np.testing.assert_allclose(povey_window(), arrays("fbank")["povey_window"], atol=2e-7)


def test_silence_and_batching(clips):
    wave = jnp.asarray(clips("clip_2s"))
    both = fbank(jnp.stack([wave, jnp.zeros_like(wave)]))
    np.testing.assert_allclose(both[1], -2.391693, atol=1e-6)
    np.testing.assert_array_equal(both[0], fbank(wave[None])[0])


def test_kaldi_native_fbank(clips):
    knf = pytest.importorskip("kaldi_native_fbank")
    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.window_type = "povey"
    options.mel_opts.num_bins = 126  # the most that Kaldi accepts; with 128 one triangle is empty
    wave = clips("clip_4p7s")
    online = knf.OnlineFbank(options)
    online.accept_waveform(16000, (wave * 2**15).tolist())
    online.input_finished()
    kaldi = np.stack([online.get_frame(i) for i in range(online.num_frames_ready)])
    ours = np.asarray(log_mel_energies(jnp.asarray(wave)[None], mel_filterbank(126))[0])
    assert kaldi.shape == ours.shape
    assert np.abs(kaldi - ours).max() < 5e-4
