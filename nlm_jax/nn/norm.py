"""LayerNorm and RMSNorm, computed in float32 whatever the dtype of the activations."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from nlm_jax.nn.param import new_key, param

ones, zeros = nnx.initializers.ones_init(), nnx.initializers.zeros_init()


class LayerNorm(nnx.Module):
    """Normalization by mean and variance over the last axis, then scale and bias, as torch.nn.LayerNorm."""

    def __init__(self, width: int, *, eps: float = 1e-5, axis: str | None = "embed", rngs: nnx.Rngs):
        self.scale = param(nnx.Param, ones, new_key(rngs), (width,), (axis,))
        self.bias = param(nnx.Param, zeros, new_key(rngs), (width,), (axis,))
        self.eps = eps

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        return _layer_norm(x, self.scale[...], self.bias[...], self.eps)


class RMSNorm(nnx.Module):
    """Normalization by the root mean square over the last axis, then scale. Rounds before scaling, as LlamaRMSNorm."""

    def __init__(self, width: int, *, eps: float, rngs: nnx.Rngs):
        self.scale = param(nnx.Param, ones, new_key(rngs), (width,), ("embed",))
        self.eps = eps

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.eps)
        return y.astype(x.dtype) * self.scale[...].astype(x.dtype)


@functools.partial(jax.checkpoint, prevent_cse=False, static_argnums=3)
def _layer_norm(x, scale, bias, eps):
    """Saves its arguments alone for the backward pass instead of three float32 arrays of the size of `x`."""
    y = x.astype(jnp.float32)
    y = y - y.mean(-1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + eps)
    return (y * scale.astype(jnp.float32) + bias.astype(jnp.float32)).astype(x.dtype)
