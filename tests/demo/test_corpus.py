"""The synthetic corpus: the same for the same seed, individuals of the splits disjoint, species distinguishable."""

import json

import numpy as np
import pytest
import soundfile

from nlm_jax.demo import corpus, questions, sound
from nlm_jax.demo.presets import TINY_SIZES
from nlm_jax.demo.species import SPECIES
from nlm_jax.evaluate import baselines


@pytest.fixture(scope="module")
def scenes():
    return list(corpus.scenes())


def test_same_seed_same_scenes_and_samples():
    first, second = (list(corpus.scenes(3, TINY_SIZES)) for _ in range(2))
    assert first == second
    for scene in first[::17]:
        wave = corpus.render(scene, 3)
        np.testing.assert_array_equal(wave, corpus.render(scene, 3))
        assert not np.array_equal(wave, corpus.render(scene, 4))


def test_a_clip_does_not_depend_on_the_clips_before_it(scenes):
    wave = corpus.render(scenes[100])
    corpus.render(scenes[7])
    np.testing.assert_array_equal(wave, corpus.render(scenes[100]))


def test_no_individual_is_in_both_splits(scenes):
    individuals = {split: {who for s in scenes if s.split == split for who in s.who} for split in corpus.SPLITS}
    assert individuals["train"]
    assert individuals["valid"]
    assert not individuals["train"] & individuals["valid"]


def test_sixteen_species_or_more_with_two_voices_each(scenes):
    assert len(SPECIES) >= 16
    assert len({s.scientific for s in SPECIES}) == len({s.common for s in SPECIES}) == len(SPECIES)
    for species in SPECIES:
        assert species.song != species.call
        assert len(species.taxonomy.split()) == 6
    sounds = {(s.species, s.kind) for s in scenes if s.species and s.split == "valid"}
    assert len(sounds) == 2 * len(SPECIES)


def test_species_are_distinct_and_individuals_vary():
    """Nearest class mean of log-mel statistics classifies songs of unseen individuals far better than chance."""

    def describe(species, who):
        scene = corpus.Scene("x", "train", "animal", (who,), "wind", species.common, "song", seed=hash(who) % 1000)
        return baselines.statistics(corpus.render(scene))

    chosen = SPECIES[:8]
    means = [np.mean([describe(s, f"{s.common}/a/{i}") for i in range(3)], axis=0) for s in chosen]
    right = [
        int(np.argmin([np.linalg.norm(describe(s, f"{s.common}/b/{i}") - m) for m in means]) == k)
        for k, s in enumerate(chosen)
        for i in range(2)
    ]
    assert np.mean(right) > 0.6
    voices = {corpus.voice_of(f"{SPECIES[0].common}/a/{i}", 0)[0].pitch for i in range(5)}
    assert len(voices) == 5


def test_written_corpus_is_official_jsonl(tmp_path):
    paths = corpus.write(tmp_path, 0, TINY_SIZES, 1.0)
    rows = [json.loads(line) for path in paths.values() for line in path.read_text().splitlines()]
    assert {"path", "prompt", "text", "task", "domain", "licence", "split"} <= set.intersection(*map(set, rows))
    assert {row["task"] for row in rows} == {*questions.CLOSED, "captioning"}
    assert {p.rsplit(".", 1)[1] for p in (row["path"] for row in rows)} == {"wav", "flac"}
    for row in rows[::40]:
        wave, rate = soundfile.read(tmp_path / row["path"])
        assert rate == 16_000
        assert wave.shape == (16_000,)
        assert 0.001 < np.abs(wave).max() <= 1


def test_answers_follow_from_the_scene(scenes):
    rng_rows = [(s, r) for s in scenes[::5] for r in questions.rows(s, 0, SPECIES)]
    for scene, row in rng_rows:
        if row["task"] == "common-simple-detection":
            offered = row["prompt"].removeprefix(questions.DETECT).strip().split(", ")
            assert row["text"] == (scene.species if scene.species in offered else "None")
        if row["task"] in ("individual-count", "speaker-count"):
            assert row["text"] == questions.COUNTS[scene.count]
        if row["task"] == "spoken-word":
            assert row["text"] in sound.WORDS
    none = [r["text"] == "None" for _, r in rng_rows if r["task"] == "common-simple-detection"]
    assert 0.3 < np.mean(none) < 0.65


def test_sound_stays_in_range(scenes):
    for scene in scenes[::211]:
        wave = corpus.render(scene)
        assert wave.dtype == np.float32
        assert wave.shape == (32_000,)
        assert np.isfinite(wave).all()
        assert np.abs(wave).max() <= 1
