"""What `nlm_jax.testing` writes can be prepared and fits the tiny model."""

import numpy as np

from nlm_jax import testing
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare


def test_corpus_prepares_without_rejects(tmp_path):
    paths = testing.write_corpus(tmp_path / "corpus", clips=8)
    manifest = prepare(PrepareOptions(paths["train"], tmp_path / "out"))
    assert manifest["clips"] == 8
    assert manifest["examples"] == 16
    assert not any(manifest["rejected"].values())


def test_corpus_follows_its_seed(tmp_path):
    first, second, other = (testing.write_corpus(tmp_path / str(i), clips=4, seed=s) for i, s in enumerate((1, 1, 2)))
    sound = [(p["valid"].parent / "audio" / "valid-000.wav").read_bytes() for p in (first, second, other)]
    assert sound[0] == sound[1] != sound[2]


def test_tiny_config_holds_the_built_in_vocabulary():
    cfg = testing.tiny_config()
    assert cfg.llama.vocab == testing.tokenizer().vocab_size
    assert cfg.llama.layers == cfg.beats.layers == cfg.qformer.layers == 1
    assert np.all([testing.tone(name, 0.5, np.random.default_rng(0)).shape == (8000,) for name in testing.NAMES])


def test_tiny_model_is_a_function_of_its_seed():
    wave = [np.random.default_rng(0).uniform(-0.5, 0.5, 16_000).astype(np.float32)]
    first, same, other = (testing.tiny_model(seed).encode_audio(wave) for seed in (0, 0, 1))
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 1e-3
