"""The negative log-likelihood of a token: the cross-entropy, and finite if logits are large."""

import jax.numpy as jnp
import numpy as np

from nlm_jax.nn.loss import token_nll


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
