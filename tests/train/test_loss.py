"""Sums over answer slots, and nothing from unused ones."""

import jax.numpy as jnp
import numpy as np

from nlm_jax.train.loss import per_segment, token_nll


def test_token_nll_is_the_cross_entropy():
    logits = np.random.default_rng(0).normal(size=(2, 3, 7)).astype(np.float32)
    targets = np.array([[0, 6, 3], [2, 2, 5]], np.int32)
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    probs = shifted / shifted.sum(-1, keepdims=True)
    expected = -np.log(np.take_along_axis(probs, targets[..., None], -1))[..., 0]
    np.testing.assert_allclose(token_nll(jnp.asarray(logits), jnp.asarray(targets)), expected, rtol=1e-5)


def test_large_logits_stay_finite():
    logits = jnp.array([[[1e4, -1e4, 0.0]]])
    np.testing.assert_allclose(token_nll(logits, jnp.array([[1]])), [[2e4]])


def test_per_segment():
    values = jnp.array([[1.0, 2.0, 4.0, 0.0], [8.0, 16.0, 0.0, 0.0]])
    segment = jnp.array([[1, 1, 2, 0], [1, 3, 0, 0]])
    np.testing.assert_array_equal(per_segment(values, segment, 3), [[3.0, 4.0, 0.0], [8.0, 0.0, 16.0]])
