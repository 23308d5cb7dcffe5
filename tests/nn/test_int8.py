"""Weights in int8: the rounding error, and an exact round trip."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from nlm_jax.nn.int8 import dequantize, quantize
from nlm_jax.nn.linear import Linear, LoraConfig


def weights(layers=2, d_in=48, d_out=20):
    """Channels of very different scale, and one that is zero."""
    kernels = np.random.default_rng(0).normal(size=(layers, d_in, d_out)).astype(np.float32)
    kernels *= np.geomspace(1e-4, 30, d_out, dtype=np.float32)
    kernels[..., 7] = 0.0
    return jnp.asarray(kernels)


def test_the_error_is_at_most_half_a_step():
    kernel = weights()
    integers, scale = quantize(kernel)
    assert integers.dtype == jnp.int8
    assert scale.shape == (2, 20)
    # Rounding the scale to eight bits may cut the largest weights by another 127 / 2^9 of a step.
    assert np.all(np.abs(dequantize(integers, scale) - kernel) <= 0.5 * scale[:, None, :] * (1 + 1e-5))
    assert np.all(np.abs(integers).max(1)[scale != 1.0] == 127)


def test_quantizing_dequantized_weights_is_exact():
    integers, scale = quantize(weights())
    again, same = quantize(dequantize(integers, scale))
    np.testing.assert_array_equal(again, integers)
    np.testing.assert_array_equal(same, scale)


def test_an_int8_layer_equals_one_with_dequantized_weights():
    layer = Linear(48, 20, ("embed", "mlp"), bias=True, lora=LoraConfig(4, 8.0, 0.0), rngs=nnx.Rngs(0))
    layer.lora_b[...] = jnp.ones_like(layer.lora_b[...])
    x = jnp.asarray(np.random.default_rng(1).normal(size=(5, 48)), jnp.float32)
    integers, scale = quantize(weights(1)[0])
    layer.kernel[...] = dequantize(integers, scale)
    plain = layer(x)
    layer.kernel, layer.kernel_scale = nnx.Param(integers), nnx.Param(scale)
    np.testing.assert_allclose(layer(x), plain, rtol=1e-5, atol=1e-4)
