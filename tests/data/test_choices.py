"""Augmentation against the reference's helpers, and every random choice as a function of (seed, position)."""

import dataclasses
import json
import random

import numpy as np
import pytest

from nlm_jax.audio import augment
from nlm_jax.data.choices import CROP, Chooser, generator, labels_of, mix_labels, mix_prompts, partner_tasks, uniform
from nlm_jax.data.clips import ClipReader, crop_start
from nlm_jax.data.config import AugmentConfig
from nlm_jax.data.dataset import Corpus

ALL = AugmentConfig(mixup_prob=0.5, none_prob=0.2, noise_prob=0.5, time_scale_prob=0.3)


@pytest.fixture(scope="module")
def reference(golden):
    return json.loads((golden / "dataprep.json").read_text()), np.load(golden / "dataprep.npz")


def test_labels(reference):
    for case in reference[0]["mix_labels"]:
        assert mix_labels(case["text"], case["text_to_mix"]) == case["result"]


def test_prompts(reference):
    for case in reference[0]["mix_prompts"]:
        rng = random.Random(case["python_random_seed"])
        assert mix_prompts(case["prompt"], case["text"], case["text_to_mix"], rng) == case["result"]


def test_partners(reference):
    for task, partners in reference[0]["mixup_partners"].items():
        assert list(partner_tasks(task)) == partners


def test_noise_level(reference):
    arrays = reference[1]
    for snr in (-10.0, 0.0, 7.5, 25.0):
        result = augment.scale_noise(arrays["snr__clean"], arrays["snr__noise"], snr)
        np.testing.assert_allclose(
            result, arrays[f"snr__scaled_{snr}"], rtol=1e-7
        )  # the reference rounds once to float32
    silent = np.zeros_like(arrays["snr__noise"])
    np.testing.assert_array_equal(
        augment.scale_noise(arrays["snr__clean"], silent, 0.0), arrays["snr__silent_noise_scaled_0.0"]
    )


def test_time_scale(reference):
    table, arrays = reference
    for case in table["time_scale"]["cases"]:
        result = augment.time_scale(arrays["snr__clean"], case["drawn_factor"], case["global_uniform_for_left_padding"])
        np.testing.assert_allclose(result, arrays[f"time_scale__{case['index']}"], atol=1e-15)


def test_sums_stay_within_full_scale():
    loud = np.full(100, 0.9, np.float32)
    assert augment.mix([loud, loud, -0.5 * loud]).max() == pytest.approx(1.0)
    np.testing.assert_array_equal(augment.mix([0.1 * loud, 0.2 * loud]), 0.1 * loud + 0.2 * loud)
    noise = augment.coloured_noise(np.random.default_rng(0), 8000)
    noisy = augment.add_noise(loud.repeat(80), noise, -10.0)
    assert np.abs(noisy).max() <= 1.0
    assert noise.std() == pytest.approx(0.1, rel=1e-4)


def test_random_numbers():
    draw = lambda *a: generator(*a).random(3).tolist()  # noqa: E731
    assert draw(1, 5, CROP) == draw(1, 5, CROP)
    assert len({tuple(draw(*a)) for a in ((1, 5, 1), (2, 5, 1), (1, 6, 1), (1, 5, 2), (1, 10**13, 1))}) == 5
    u = uniform(3, np.arange(20000), 4)
    assert (np.sort(u) - (np.arange(20000) + 0.5) / 20000).__abs__().max() < 0.015
    assert uniform(3, np.asarray([777]), 4)[0] == u[777]
    starts = [crop_start(1000, 600, np.random.default_rng(k)) for k in range(3000)]
    assert (min(starts), max(starts)) == (0, 400)
    assert crop_start(600, 600, np.random.default_rng(0)) == crop_start(5, 600, np.random.default_rng(0)) == 0


@pytest.fixture(scope="module")
def corpus(prepared):
    return Corpus([prepared])


def detection(corpus):
    return int(np.flatnonzero(corpus.task == corpus.tasks.index("common-simple-detection"))[4])


def test_only_detection_changes_its_text(corpus):
    chooser = Chooser(corpus, ALL, seed=2)
    examples = np.arange(4000) % len(corpus)
    changed = chooser.changed(np.arange(4000), examples)
    assert {corpus.tasks[t] for t in corpus.task[examples[changed]]} == {"common-simple-detection"}
    share = len(changed) / (corpus.task[examples] == corpus.task[detection(corpus)]).sum()
    assert share == pytest.approx(1 - 0.8 * 0.5, abs=0.05)
    assert not Chooser(corpus, AugmentConfig(), 2).changed(np.arange(4000), examples).size


def test_merged_questions_ask_for_every_answer(corpus):
    chooser, example = Chooser(corpus, ALL, seed=2), detection(corpus)
    entry, kinds = corpus.entry(example), set()
    for position in range(200):
        choice = chooser.choose(position, example)
        assert choice == Chooser(corpus, ALL, seed=2).choose(position, example)
        kinds.add((choice.silenced, len(choice.partners)))
        if choice.silenced:
            assert (choice.text, choice.prompt) == ("None", None)
        elif choice.partners:
            assert all(corpus.tasks[corpus.task[p]] == "common-simple-detection" for p in choice.partners)
            texts = [entry.text, *(corpus.entry(p).text for p in choice.partners)]
            assert set(labels_of(choice.text)) == set(texts)
            options = set(labels_of(choice.prompt.partition("?")[2]))
            assert options == {*texts, "bat", "None"}
        else:
            assert (choice.text, choice.prompt) == (None, None)
    assert kinds >= {(False, 0), (False, 1), (False, 2), (True, 0)}


def test_waves(corpus, prepared):
    example = max(range(len(corpus)), key=lambda e: corpus.clip_samples(e)[0] * (corpus.n_clips[e] == 1))
    plain = ClipReader(corpus, AugmentConfig(), 32000, crop=True, seed=1)
    chooser = Chooser(corpus, ALL, seed=1)
    crops = [plain.clips(chooser.choose(10**6, example), p)[0] for p in range(4)]
    whole = corpus.clip(example, 0)
    windows = np.lib.stride_tricks.sliding_window_view(whole[: len(whole) - 32000 + 8], 8)
    assert len({c.tobytes() for c in crops}) == 4
    for crop in crops:
        start = int(np.argmax((windows == crop[:8]).all(axis=1)))
        np.testing.assert_array_equal(whole[start : start + 32000], crop)
    np.testing.assert_array_equal(crops[2], plain.clips(chooser.choose(10**6, example), 2)[0])
    start = ClipReader(corpus, AugmentConfig(), 32000, crop=False, seed=1).clips(chooser.choose(10**6, example), 3)
    np.testing.assert_array_equal(start[0], whole[:32000])
    changed = ClipReader(corpus, dataclasses.replace(ALL, noise_dirs=(str(prepared),)), 32000, crop=True, seed=1)
    seen = 0
    for position in range(60):
        choice = chooser.choose(position, detection(corpus))
        (result,) = changed.clips(choice, position)
        assert result.shape == (32000,)
        assert result.dtype == np.float32
        assert np.abs(result).max() <= 1.0
        np.testing.assert_array_equal(result, changed.clips(choice, position)[0])
        seen += (result != plain.clips(choice, position)[0]).any()
    assert 10 < seen < 60
