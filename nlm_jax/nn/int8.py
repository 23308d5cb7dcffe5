"""Symmetric int8 per output channel for weights that never train: half the bytes of bfloat16 to hold and to gather.

kernel[in, out] becomes round(kernel / scale[out]) with scale = max |kernel| / 127 of each output channel, as bfloat16.
The product is taken with the integers, which bfloat16 holds exactly, and scaled afterwards. Eight bits of scale make
the way back exact: weights that were written out as integer times scale give the same integers and scales again.
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
    """Integers in [-127, 127] and the scale of each output channel."""
    kernel = kernel.astype(jnp.float32)
    highest = jnp.abs(kernel).max(-2)
    scale = jnp.where(highest > 0, highest / LEVELS, 1.0).astype(jnp.bfloat16).astype(jnp.float32)
    whole = jnp.round(kernel / scale[..., None, :])
    return jnp.clip(whole, -LEVELS, LEVELS).astype(jnp.int8), scale


def dequantize(
    whole: Int8[Array, "*layers d_in d_out"], scale: Float[Array, "*layers d_out"]
) -> Float[Array, "*layers d_in d_out"]:
    """The weights that the integers stand for, in float32, where their product with the scale is exact."""
    return whole.astype(jnp.float32) * scale[..., None, :]


def int8_base(model: nnx.Module) -> nnx.Module:
    """`model` with the kernels of its language model's layers in int8; embeddings, norms and head stay as they are."""
    for _, module in nnx.iter_modules(model.llama.layers):
        if isinstance(module, Linear):
            names = module.kernel.get_metadata("out_sharding")
            whole, scale = quantize(module.kernel[...])
            module.kernel = nnx.Param(whole, out_sharding=names, eager_sharding=False)
            module.kernel_scale = nnx.Param(scale, out_sharding=(*names[:-2], names[-1]), eager_sharding=False)
    return model


def scale_path(path: str) -> str:
    """Where the scale of the kernel at `path` is."""
    return path.removesuffix(KERNEL) + SCALE
