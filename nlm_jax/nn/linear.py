"""Linear map with an optional bias and an optional LoRA adapter."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int8

from nlm_jax.core.precision import matmul_precision
from nlm_jax.nn.param import new_key, param

lecun = nnx.initializers.lecun_normal()
zeros = nnx.initializers.zeros_init()


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapter as PEFT defines it: delta scaled by alpha / rank, dropout on the adapter's input."""

    rank: int = 32
    alpha: float = 32.0
    dropout: float = 0.1

    @property
    def scale(self) -> float:
        """Factor on the adapter's output."""
        return self.alpha / self.rank


def kaiming_uniform(key, shape, dtype=jnp.float32):
    """Initializer of PEFT's lora_A, torch's kaiming_uniform_(a=sqrt(5)): uniform in +-1 / sqrt(in) for [in, out]."""
    bound = shape[0] ** -0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


class Linear(nnx.Module):
    """y[..., out] = x[..., in] @ kernel[in, out] (+ bias) (+ (x @ lora_a) @ lora_b * alpha / rank)."""

    def __init__(self, d_in, d_out, axes, *, bias=False, lora: LoraConfig | None = None, init=lecun, rngs: nnx.Rngs):
        self.kernel = param(nnx.Param, init, new_key(rngs), (d_in, d_out), axes)
        self.bias = param(nnx.Param, zeros, new_key(rngs), (d_out,), axes[1:]) if bias else None
        self.kernel_scale = nnx.data(None)  # a variable if the kernel is int8, see nn/int8.py
        # Each attribute is assigned once: None first and a Variable later is an error in Flax.
        rank = lora.rank if lora else 0
        self.lora_a = (
            param(nnx.LoRAParam, kaiming_uniform, new_key(rngs), (d_in, rank), (axes[0], "lora")) if lora else None
        )
        self.lora_b = param(nnx.LoRAParam, zeros, new_key(rngs), (rank, d_out), ("lora", axes[1])) if lora else None
        self.lora = lora

    def __call__(self, x: Float[Array, "... d_in"], key=None) -> Float[Array, "... d_out"]:
        """Applies the map; weights are cast to the dtype of `x`, and dropout of the adapter is on if `key` is given."""
        y = matmul(x, self.kernel[...])
        if self.kernel_scale is not None:
            y = y * self.kernel_scale[...].astype(x.dtype)
        if self.bias is not None:
            y = y + self.bias[...].astype(x.dtype)
        if self.lora is not None:
            x = dropout(x, self.lora.dropout, key)
            y = y + matmul(matmul(x, self.lora_a[...]), self.lora_b[...]) * self.lora.scale
        return y


def matmul(
    x: Float[Array, "... d_in"], w: Float[Array, "d_in d_out"] | Int8[Array, "d_in d_out"]
) -> Float[Array, "... d_out"]:
    """x @ w in the dtype of `x`; float32 stays float32 on accelerators."""
    return jnp.matmul(x, w.astype(x.dtype), precision=matmul_precision(x.dtype))


def dropout(x: Float[Array, "..."], rate: float, key) -> Float[Array, "..."]:
    """Inverted dropout; the identity if `key` is None or `rate` is 0."""
    if key is None or rate == 0.0:
        return x
    return jnp.where(jax.random.bernoulli(key, 1.0 - rate, x.shape), x / (1.0 - rate), 0)


def subkey(key, index):
    """The `index`-th key derived from `key`; None stays None, which means evaluation."""
    return None if key is None else jax.random.fold_in(key, index)
