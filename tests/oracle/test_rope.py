"""RoPE at short and long positions against the official arrays."""

import jax
import jax.numpy as jnp
import numpy as np

from nlm_jax.nn.rope import RopeScaling, inverse_frequencies, rope_tables, rotate

LLAMA3 = RopeScaling("llama3", 8.0)


def test_inverse_frequencies(arrays):
    golden = arrays("rope")
    np.testing.assert_array_equal(inverse_frequencies(16, 5e5, LLAMA3), golden["inv_freq"])
    np.testing.assert_array_equal(inverse_frequencies(128, 5e5, LLAMA3), golden["inv_freq_head_dim_128"])


def test_tables_at_long_positions(arrays):
    golden = arrays("rope")
    assert golden["positions"].max() >= 8192
    cos, sin = rope_tables(jnp.asarray(golden["positions"])[None], 16, 5e5, LLAMA3)
    np.testing.assert_allclose(cos[0, :, 0], golden["cos"][:, :8], atol=1e-6)
    np.testing.assert_allclose(sin[0, :, 0], golden["sin"][:, :8], atol=1e-6)


def test_scores_depend_on_the_difference_of_positions_only():
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 16))

    def score(i, j):
        at = [rotate(x, rope_tables(jnp.array([[p]]), 16, 5e5, LLAMA3)) for x, p in ((q, i), (k, j))]
        return float((at[0] * at[1]).sum())

    np.testing.assert_allclose(score(7, 3), score(2007, 2003), rtol=1e-4)


def test_linear_scaling():
    plain, linear = inverse_frequencies(16, 1e4, None), inverse_frequencies(16, 1e4, RopeScaling("linear", 4.0))
    np.testing.assert_allclose(linear, plain / 4)
