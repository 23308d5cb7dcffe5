"""Symmetric int8 per output channel for frozen weights: half the memory and gather traffic of bfloat16.

kernel[in, out] becomes round(kernel / scale[out]) with scale = max |kernel| / 127 of each output channel, as bfloat16.
The product is taken with the integers, which bfloat16 represents exactly, and scaled afterwards. A scale of eight bits
makes the round trip exact: quantizing weights that are integer times scale gives the same integers and scales again.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int8

from nlm_jax.nn.linear import Linear

LEVELS = 127
KERNEL, SCALE = "/kernel", "/kernel_scale"


def quantize(
    kernel: Float[Array, "*layers d_in d_out"],
) -> tuple[Int8[Array, "*layers d_in d_out"], Float[Array, "*layers d_out"]]:
    """Quantizes kernels; returns integers in [-127, 127] and the scale of each output channel."""
    kernel = kernel.astype(jnp.float32)
    highest = jnp.abs(kernel).max(-2)
    scale = jnp.where(highest > 0, highest / LEVELS, 1.0).astype(jnp.bfloat16).astype(jnp.float32)
    integers = jnp.round(kernel / scale[..., None, :])
    return jnp.clip(integers, -LEVELS, LEVELS).astype(jnp.int8), scale


def dequantize(
    integers: Int8[Array, "*layers d_in d_out"], scale: Float[Array, "*layers d_out"]
) -> Float[Array, "*layers d_in d_out"]:
    """Integers times scales in float32, in which the product is exact."""
    return integers.astype(jnp.float32) * scale[..., None, :]


def int8_base(model: nnx.Module) -> nnx.Module:
    """Quantizes the kernels of the language model's layers in place; embeddings, norms and head are unchanged."""
    for _, module in nnx.iter_modules(model.llama.layers):
        if isinstance(module, Linear):
            names = module.kernel.get_metadata("out_sharding")
            integers, scale = quantize(module.kernel[...])
            module.kernel = nnx.Param(integers, out_sharding=names, eager_sharding=False)
            module.kernel_scale = nnx.Param(scale, out_sharding=(*names[:-2], names[-1]), eager_sharding=False)
    return model


def scale_path(path: str) -> str:
    """Path of the scale of the kernel at `path`."""
    return path.removesuffix(KERNEL) + SCALE
