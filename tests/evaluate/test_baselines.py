"""The two baselines on sounds whose classes differ in their spectrum, and without training questions."""

import numpy as np

from nlm_jax.audio.mel import log_mel
from nlm_jax.evaluate.accuracy import Prediction
from nlm_jax.evaluate.baselines import logistic, majority, predict, statistics


def tone(hz, seed, seconds=0.5):
    time = np.arange(round(16000 * seconds)) / 16000
    return (np.sin(2 * np.pi * hz * time) + 0.05 * np.random.default_rng(seed).normal(size=time.size)).astype("f4")


def test_log_mel_finds_the_tone():
    loudest = [int(log_mel(tone(hz, 0)).mean(0).argmax()) for hz in (300, 1000, 4000)]
    assert loudest == sorted(loudest)
    assert len(set(loudest)) == 3
    assert log_mel(np.zeros(10, "f4")).shape == (1, 64)


def test_statistics_are_finite_and_of_one_size():
    for wave in (tone(500, 1), np.zeros(16000, "f4"), np.zeros(100, "f4")):
        assert statistics(wave).shape == (256,)
        assert np.isfinite(statistics(wave)).all()


def test_majority_breaks_ties_by_name():
    assert majority(["b", "a", "b"]) == "b"
    assert majority(["b", "a"]) == "a"


def test_logistic_separates_tones():
    pitches = {"low": 400, "high": 2500}
    train = [(name, tone(hz, seed)) for seed in range(6) for name, hz in pitches.items()]
    model = logistic(np.stack([statistics(w) for _, w in train]), [name for name, _ in train])
    new = np.stack([statistics(tone(hz, 99)) for hz in (420, 2400)])
    assert model(new) == ["low", "high"]
    assert logistic(new, ["only", "only"])(new) == ["only", "only"]


def test_predict_task_by_task():
    def question(task, expected, path):
        return Prediction(task, expected, "", path, "?")

    waves = {f"{name}{i}": tone(hz, i) for i in range(4) for name, hz in (("low", 400), ("high", 2500))}
    train = [question("pitch", path[:-1], path) for path in waves if path[-1] != "3"]
    test = [question("pitch", path[:-1], path) for path in waves if path[-1] == "3"] + [question("new", "x", "low0")]
    predictions = predict(train, test, lambda path: statistics(waves[path]))
    # Task "new" has no training question.
    assert [p.answer for p in predictions["logistic"]] == [p.expected for p in test[:2]]
    assert {p.answer for p in predictions["majority"]} == {"high"}
