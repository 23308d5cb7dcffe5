"""Every augmentation: what it does to a waveform, which tasks it leaves alone, and that it leaves labels true."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile

from nlm_jax.audio import augment
from nlm_jax.core.errors import UserError
from nlm_jax.data.choices import Chooser
from nlm_jax.data.clips import ClipReader
from nlm_jax.data.config import AugmentConfig
from nlm_jax.data.dataset import Corpus
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare

T = 16_000
KINDS = {
    "noise": AugmentConfig(noise_prob=1.0),
    "time_scale": AugmentConfig(time_scale_prob=1.0, time_scale=1.3),
    "time_shift": AugmentConfig(time_shift_prob=1.0),
    "band_stop": AugmentConfig(band_stop_prob=1.0),
    "reverb": AugmentConfig(reverb_prob=1.0),
    "gain": AugmentConfig(gain_prob=1.0),
    "mixup": AugmentConfig(mixup_prob=1.0),
    "none": AugmentConfig(none_prob=1.0),
}
ALL = AugmentConfig(
    **dict.fromkeys(
        (f"{kind}_prob" for kind in ("noise", "time_scale", "time_shift", "band_stop", "reverb", "gain")), 0.7
    ),
    mixup_prob=0.5,
    none_prob=0.2,
)
SPARED = {
    "noise": ("wavcaps-qa", "icl-detection", "caption-common", "animal-instructions"),
    "time_scale": ("pitch", "instrument-pitch"),
    "time_shift": ("call-order",),
    "band_stop": ("pitch", "instrument-pitch"),
    "gain": ("velocity",),
}
TASKS = sorted({"common-name", "common-simple-detection", *(task for tasks in SPARED.values() for task in tasks)})


def tone(hz, seconds=1.0, level=0.3):
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * T)) / T)).astype(np.float32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A question of every task about a tone of 0.6 s, 2 s or silence; pairs; and one recording below a folder A."""
    folder = tmp_path_factory.mktemp("augment")
    (folder / "A").mkdir()
    for name, wave in (
        ("short.wav", tone(500, 0.6)),
        ("long.wav", tone(1000, 2.0) + tone(3000, 2.0)),
        ("other.wav", tone(2000, 1.5)),
        ("silent.wav", np.zeros(T, np.float32)),
        ("A/hidden.wav", tone(700)),
        ("loud.wav", np.sign(tone(300, 2.0)).astype(np.float32)),
    ):
        soundfile.write(folder / name, wave, T)
    question = "Which of these, if any, are present? robin, owl, None"
    rows = [{"path": "long.wav", "task": task, "prompt": question, "text": "robin"} for task in TASKS]
    rows += [{"path": path, "task": "common-name", "prompt": "What is it?", "text": "owl"}
             for path in ("short.wav", "silent.wav", "A/hidden.wav", "loud.wav")]  # fmt: skip
    rows += [{"path": path, "task": "common-simple-detection", "prompt": question, "text": label}
             for path, label in (("other.wav", "wren"), ("short.wav", "None"))]  # fmt: skip
    pair = {"files": ["long.wav", "other.wav"], "prompt": "The same?", "text": "no"}
    rows += [{**pair, "task": task}
             for task in ("common-name", "common-simple-detection")]  # fmt: skip
    rows.append({"files": [], "task": "common-name", "prompt": "Say owl.", "text": "owl"})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(PrepareOptions(folder / "rows.jsonl", folder / "out", encoding="pcm16"))
    return Corpus([folder / "out"])


def examples(corpus, task=None, path=None, clips=1):
    matches = [e for e in range(len(corpus)) if corpus.n_clips[e] == clips]
    matches = [e for e in matches if task in (None, corpus.tasks[corpus.task[e]])]
    return [e for e in matches if path is None or path in corpus.clip_names(e)]


def augmented(corpus, config, example, position, seed=3):
    """(choice, clips, names of the steps)."""
    choice = Chooser(corpus, config, seed).choose(position, example)
    steps = list(ClipReader(corpus, config, T, crop=True, seed=seed).steps(choice, position))
    return choice, steps[-1].clips, [step.name for step in steps]


def test_every_kind_is_a_function_of_seed_and_position(corpus):
    example = examples(corpus, "common-simple-detection")[0]
    for kind, config in KINDS.items():
        _, (first,), names = augmented(corpus, config, example, 5)
        assert names == ["stored", kind]
        choice = Chooser(corpus, config, 3).choose(5, example)
        np.testing.assert_array_equal(first, ClipReader(corpus, config, T, True, 3).clips(choice, 5)[0])
        np.testing.assert_array_equal(first, augmented(corpus, config, example, 5)[1][0])
        # a time scale may cut the same samples, so compare several places
        assert any((first != augmented(corpus, config, example, p)[1][0]).any() for p in (6, 7)), kind
        assert (first != augmented(corpus, config, example, 5, seed=4)[1][0]).any(), kind


def test_switching_one_on_leaves_the_others_as_they_are(corpus):
    """Of an example with all kinds on, each step has the values that it has alone."""
    example = examples(corpus, "common-name", "long.wav")[0]
    every = dataclasses.replace(ALL, **{f.name: 1.0 for f in dataclasses.fields(ALL) if f.name.endswith("_prob")})
    choice = Chooser(corpus, AugmentConfig(), 3).choose(8, example)
    steps = list(ClipReader(corpus, every, T, True, 3).steps(choice, 8))
    assert [s.name for s in steps] == ["stored", "time_scale", "time_shift", "band_stop", "reverb", "noise", "gain"]
    for step in steps[1:]:
        alone = dataclasses.replace(AugmentConfig(), **{f"{step.name}_prob": 1.0})
        stored, changed = ClipReader(corpus, alone, T, True, 3).steps(choice, 8)
        np.testing.assert_array_equal(stored.clips[0], steps[0].clips[0])
        assert changed.parameters == step.parameters


def test_probabilities(corpus):
    example = examples(corpus, "common-name", "long.wav")[0]
    seen = [augmented(corpus, dataclasses.replace(ALL, noise_prob=0.2), example, p)[2] for p in range(150)]
    for name, share in (("noise", 0.2), ("gain", 0.7), ("reverb", 0.7), ("band_stop", 0.7), ("time_shift", 0.7)):
        assert sum(name in steps for steps in seen) / 150 == pytest.approx(share, abs=0.12)


@pytest.mark.parametrize("kind", SPARED)
def test_tasks_whose_answer_it_would_change_are_left_alone(corpus, kind):
    for task in TASKS:
        _, _, names = augmented(corpus, KINDS[kind], examples(corpus, task, "long.wav")[0], 1)
        assert (kind in names) == (task not in SPARED[kind]), task
    free = dataclasses.replace(KINDS[kind], **{f"{kind}_except": ()})
    assert kind in augmented(corpus, free, examples(corpus, SPARED[kind][0])[0], 1)[2]


def test_noise_spares_recordings_by_path(corpus):
    (example,) = examples(corpus, path="A/hidden.wav")
    assert augmented(corpus, KINDS["noise"], example, 1)[2] == ["stored"]
    assert "noise" in augmented(corpus, dataclasses.replace(KINDS["noise"], noise_except_paths=()), example, 1)[2]


def test_text_changes_only_with_mixing_and_none(corpus):
    quiet = dataclasses.replace(ALL, mixup_prob=0.0, none_prob=0.0)
    for example in range(len(corpus)):
        choice = Chooser(corpus, quiet, 3).choose(4, example)
        assert (choice.prompt, choice.text, choice.partners, choice.silenced) == (None, None, (), False)
    for kind in ("mixup", "none"):
        for task in TASKS:
            choice = Chooser(corpus, KINDS[kind], 3).choose(4, examples(corpus, task, "long.wav")[0])
            assert (choice.text is not None) == (task == "common-simple-detection"), task
        (pair,) = examples(corpus, "common-simple-detection", clips=2)
        assert Chooser(corpus, KINDS[kind], 3).choose(4, pair).text is None


def test_mixing_sounds_every_answer(corpus):
    """Robin (1 and 3 kHz) with wren (2 kHz), None, or both: the answer names what the spectrum shows."""
    (example,) = examples(corpus, "common-simple-detection", "long.wav")
    kinds = set()
    for position in range(40):
        choice, (wave,), _ = augmented(corpus, dataclasses.replace(KINDS["mixup"], mixup_partners=1), example, position)
        spectrum = np.abs(np.fft.rfft(wave))[[1000, 2000, 3000]] > 100
        assert spectrum.tolist() == [True, "wren" in (choice.text or ""), True]
        if choice.partners:
            assert choice.text in ("robin", "robin, wren", "wren, robin")
            assert set(choice.text.split(", ")) <= set(choice.prompt.partition("? ")[2].split(", "))
            kinds.add(choice.text)
    assert len(kinds) == 2


def test_none_leaves_nothing_of_the_recording(corpus):
    (example,) = examples(corpus, "common-simple-detection", "long.wav")
    choice, (wave,), names = augmented(corpus, dataclasses.replace(ALL, none_prob=1.0, gain_prob=0.0), example, 9)
    assert (choice.text, choice.prompt, names) == ("None", None, ["stored", "none"])
    stored = ClipReader(corpus, AugmentConfig(), T, True, 3).clips(choice.__class__(example), 9)[0]
    assert abs(np.corrcoef(stored, wave)[0, 1]) < 0.05


def test_clips_of_one_example_are_treated_alike(corpus):
    """Gain, band, room and time scale of a pair are the same; noise and shifts are each clip's own."""
    (pair,) = examples(corpus, "common-name", clips=2)
    for kind in ("gain", "band_stop", "reverb", "time_scale"):
        choice = Chooser(corpus, KINDS[kind], 3).choose(2, pair)
        stored, changed = ClipReader(corpus, KINDS[kind], T, True, 3).steps(choice, 2)
        (value, *_) = changed.parameters.values()
        if kind == "gain":
            for before, after in zip(stored.clips, changed.clips, strict=True):
                np.testing.assert_allclose(after, before * 10 ** (value / 20), rtol=1e-5)
        assert len(changed.clips) == 2
    _, (one, two), _ = augmented(corpus, KINDS["noise"], pair, 2)
    plain = ClipReader(corpus, AugmentConfig(), T, True, 3).clips(Chooser(corpus, ALL, 3).choose(10**6, pair), 2)
    assert abs(np.corrcoef(one - plain[0], two - plain[1])[0, 1]) < 0.2
    (text,) = examples(corpus, clips=0)
    assert augmented(corpus, dataclasses.replace(ALL, gain_prob=1.0), text, 2)[1] == ()


@pytest.mark.parametrize("path", ["silent.wav", "loud.wav", "short.wav"])
def test_finite_and_within_full_scale(corpus, path):
    example = examples(corpus, "common-name", path)[0]
    loudest = dataclasses.replace(ALL, gain=(40.0, 60.0), gain_prob=1.0)
    for config in (*KINDS.values(), loudest, ALL):
        for position in range(6):
            for clip in augmented(corpus, config, example, position)[1]:
                assert clip.dtype == np.float32
                assert clip.shape == (T,)
                assert np.isfinite(clip).all()
                assert np.abs(clip).max() <= 1.0
                if path == "silent.wav":
                    assert not clip.any()  # noise has a level relative to the recording, which has none


def test_recorded_rooms(corpus, tmp_path):
    clap = np.zeros(4000, np.float32)
    clap[[1000, 1800]] = 0.5, -0.25  # the direct sound comes late in the file; one echo 800 samples after it
    soundfile.write(tmp_path / "clap.wav", clap, T)
    row = {"path": "clap.wav", "task": "room", "prompt": "?", "text": "room"}
    (tmp_path / "rooms.jsonl").write_text(json.dumps(row))
    prepare(PrepareOptions(tmp_path / "rooms.jsonl", tmp_path / "rooms", encoding="pcm16"))
    config = AugmentConfig(reverb_prob=1.0, reverb_dirs=(str(tmp_path / "rooms"),))
    example = examples(corpus, "common-name", "long.wav")[0]
    stored, changed = ClipReader(corpus, config, T, True, 3).steps(Chooser(corpus, config, 3).choose(0, example), 0)
    dry, wet = stored.clips[0], changed.clips[0]
    expected = dry - 0.5 * np.concatenate([np.zeros(800, np.float32), dry[:-800]])
    expected *= np.sqrt(np.mean(dry**2) / np.mean(expected**2))
    np.testing.assert_allclose(wet, augment.limit(expected), atol=1e-3)
    row = {"files": [], "task": "room", "prompt": "?", "text": "room"}
    (tmp_path / "text.jsonl").write_text(json.dumps(row))
    prepare(PrepareOptions(tmp_path / "text.jsonl", tmp_path / "text"))
    with pytest.raises(UserError, match=r"data\.augment\.reverb_dirs: no example there has a recording"):
        ClipReader(corpus, dataclasses.replace(config, reverb_dirs=(str(tmp_path / "text"),)), T, True, 3)


# --- the waveforms alone ----------------------------------------------------------------------------------------------
def test_band_stop_silences_its_band_only():
    wave = tone(1000) + tone(4000) + tone(250)
    spectrum = lambda x: np.abs(np.fft.rfft(x))[[250, 1000, 4000]]  # noqa: E731
    left = spectrum(augment.band_stop(wave, 1000.0, 0.3)) / spectrum(wave)
    assert left[1] < 0.02
    np.testing.assert_allclose(left[[0, 2]], 1.0, atol=0.02)


def test_shift_loses_nothing():
    short = np.pad(tone(440, 0.25), (0, 12_000))
    moved = augment.shift(short, 0.5)
    np.testing.assert_array_equal(moved[moved != 0], short[short != 0])
    assert np.flatnonzero(moved)[0] == pytest.approx(6_000, abs=40)
    np.testing.assert_array_equal(augment.shift(short, 1.0)[-3_999:], short[1:4_000])
    full = tone(440)
    turned = augment.shift(full, 0.25)
    by = round(0.25 * (T - 1))
    np.testing.assert_array_equal(np.roll(turned, -by)[80:-80], full[80:-80])
    assert np.abs(turned[by - 1 : by + 1]).max() < 0.01  # no click at the seam
    for share in (0.0, 1e-4, 1.0):
        assert augment.shift(full, share).shape == full.shape
    np.testing.assert_array_equal(augment.shift(full, 0.0), full)


def test_synthetic_rooms_have_the_time_and_ratio_asked_for():
    response = augment.room(np.random.default_rng(0), 0.5, 6.0).astype(np.float64)
    assert response[0] == 1.0
    assert 10 * np.log10(1.0 / np.sum(response[1:] ** 2)) == pytest.approx(6.0, abs=1e-3)
    energy = np.cumsum(response[:0:-1] ** 2)[::-1]
    decay = 10 * np.log10(energy / energy[0])
    falls = np.argmax(decay < -25) - np.argmax(decay < -5)  # 20 dB of Schroeder's curve
    assert 3 * falls / T == pytest.approx(0.5, rel=0.1)


def test_reverb_keeps_level_and_onset():
    wave = np.pad(tone(600, 0.3), (3_000, 8_200))
    wet = augment.reverb(wave, augment.room(np.random.default_rng(1), 0.4, 3.0))
    assert not wet[:2_990].any() or np.abs(wet[:2_990]).max() < 1e-6
    assert np.sqrt(np.mean(wet**2)) == pytest.approx(np.sqrt(np.mean(wave**2)), rel=1e-3)
    np.testing.assert_array_equal(augment.reverb(wave, np.zeros(10, np.float32)), wave)


def test_gain():
    np.testing.assert_allclose(augment.gain(tone(440), -6.0), tone(440) * 10**-0.3, rtol=1e-6)
    loud = augment.gain(tone(440), 40.0)
    assert np.abs(loud).max() == 1.0
    np.testing.assert_allclose(loud, tone(440) / np.abs(tone(440)).max(), rtol=1e-5)  # turned down, not clipped


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gain": (3.0, -3.0)}, r"data\.augment\.gain=.*gain is \(low, high\)"),
        ({"gain": (0.0, float("inf"))}, "both finite"),
        ({"band_stop": (0.0, 100.0)}, r"data\.augment\.band_stop=.*positive"),
        ({"reverb_prob": -0.1}, r"data\.augment\.reverb_prob=-0\.1: a probability"),
        ({"time_shift": 0.0}, r"data\.augment\.time_shift=0\.0"),
        ({"time_scale": 0.5}, "at least 1"),
    ],
)
def test_bad_ranges(fields, message):
    with pytest.raises(UserError, match=message):
        AugmentConfig(**fields)


@pytest.mark.parametrize("samples", [16_000, 16_001, 7919])
def test_noise_has_the_tilt_that_is_drawn(samples):
    for seed in range(8):
        noise = augment.coloured_noise(np.random.default_rng(seed), samples)
        assert (noise.dtype, noise.shape) == (np.float32, (samples,))
        assert np.sqrt(np.mean(noise**2)) == pytest.approx(0.1, rel=1e-4)
        power = np.abs(np.fft.rfft(noise * np.hanning(samples)))[8:-8] ** 2
        slope = np.polyfit(np.log(np.arange(8, 8 + len(power))), np.log(power), 1)[0]
        tilt = np.random.default_rng(seed).uniform()
        assert slope == pytest.approx(-2 * tilt, abs=0.12)  # fits to so many random powers differ by some 0.03


def test_noise_is_gaussian():
    outputs = []
    for seed in range(12):
        noise, tilt = augment.coloured_noise(np.random.default_rng(seed), T), np.random.default_rng(seed).uniform()
        white = np.fft.irfft(np.fft.rfft(noise)[1:] * np.arange(1, T // 2 + 1) ** tilt)
        outputs.append(white / white.std())
    values = np.concatenate(outputs)
    assert np.mean(values**4) == pytest.approx(3.0, abs=0.06)
    assert np.mean(np.abs(values) > 3) == pytest.approx(0.0027, abs=0.0006)
