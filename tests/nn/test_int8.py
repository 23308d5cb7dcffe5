"""Weights in int8: what rounding costs, and that the way back is exact."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from nlm_jax.nn.int8 import dequantize, quantize
from nlm_jax.nn.linear import Linear, LoraConfig


def weights(layers=2, d_in=48, d_out=20):
    """Channels of very different sizes, and one that is zero."""
    made = np.random.default_rng(0).normal(size=(layers, d_in, d_out)).astype(np.float32)
    made *= np.geomspace(1e-4, 30, d_out, dtype=np.float32)
    made[..., 7] = 0.0
    return jnp.asarray(made)


def test_no_weight_moves_by_more_than_half_a_step():
    kernel = weights()
    whole, scale = quantize(kernel)
    assert whole.dtype == jnp.int8
    assert scale.shape == (2, 20)
    # Rounding the scale to eight bits may cut the largest weights by another 127 / 2^9 of a step.
    assert np.all(np.abs(dequantize(whole, scale) - kernel) <= 0.5 * scale[:, None, :] * (1 + 1e-5))
    assert np.all(np.abs(whole).max(1)[scale != 1.0] == 127)


def test_integers_and_scales_come_back_from_float32_exactly():
    whole, scale = quantize(weights())
    again, same = quantize(dequantize(whole, scale))
    np.testing.assert_array_equal(again, whole)
    np.testing.assert_array_equal(same, scale)


def test_a_layer_in_int8_is_the_layer_with_the_weights_it_stands_for():
    layer = Linear(48, 20, ("embed", "mlp"), bias=True, lora=LoraConfig(4, 8.0, 0.0), rngs=nnx.Rngs(0))
    layer.lora_b[...] = jnp.ones_like(layer.lora_b[...])
    x = jnp.asarray(np.random.default_rng(1).normal(size=(5, 48)), jnp.float32)
    whole, scale = quantize(weights(1)[0])
    layer.kernel[...] = dequantize(whole, scale)
    plain = layer(x)
    layer.kernel, layer.kernel_scale = nnx.Param(whole), nnx.Param(scale)
    np.testing.assert_allclose(layer(x), plain, rtol=1e-5, atol=1e-4)
