"""Sums over answer slots, and nothing from unused ones."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from nlm_jax.core.batch import Batch
from nlm_jax.models.naturelm import NatureLMModel
from nlm_jax.testing import tiny_config
from nlm_jax.train import loss
from nlm_jax.train.loss import per_segment


def test_per_segment():
    values = jnp.array([[1.0, 2.0, 4.0, 0.0], [8.0, 16.0, 0.0, 0.0]])
    segment = jnp.array([[1, 1, 2, 0], [1, 3, 0, 0]])
    np.testing.assert_array_equal(per_segment(values, segment, 3), [[3.0, 4.0, 0.0], [8.0, 0.0, 16.0]])


def test_answers_in_parts_score_like_all_at_once(monkeypatch):
    """Loss, hits and gradient of 10 answer slots computed 4 at a time."""
    config = tiny_config()
    graphdef, state = nnx.split(NatureLMModel(config, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    s, m, samples = 40, 10, 16000
    slots = np.full((2, s), -1)
    slots[:, 3:5] = np.arange(2)
    fields = {
        "audio": rng.normal(size=(2, 1, samples)).astype(np.float32) * 0.1,
        "audio_length": np.full((2, 1), samples, np.int32),
        "tokens": rng.integers(0, config.llama.vocab, (2, s)).astype(np.int32),
        "positions": np.broadcast_to(np.arange(s, dtype=np.int32), (2, s)),
        "segments": np.ones((2, s), np.int32),
        "audio_slot": slots.astype(np.int32),
        "answer_index": np.broadcast_to(np.arange(s - m, s, dtype=np.int32), (2, m)),
        "targets": rng.integers(0, config.llama.vocab, (2, m)).astype(np.int32),
        "weights": np.ones((2, m), np.float32),
        "answer_segment": np.ones((2, m), np.int32),
    }
    batch = Batch(**{name: jnp.asarray(value) for name, value in fields.items()})

    def scores(at_once):
        monkeypatch.setattr(loss, "AT_ONCE", at_once)

        def total(state):
            nll, hit = loss.answer_scores(nnx.merge(graphdef, state), batch)
            return nll.sum(), (nll, hit)

        return jax.jit(jax.grad(total, has_aux=True))(state)

    (whole, (nll, hit)), (parts, (nll_parts, hit_parts)) = scores(10), scores(4)
    np.testing.assert_allclose(nll_parts, nll, rtol=1e-6)
    np.testing.assert_array_equal(hit_parts, hit)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), parts, whole)
