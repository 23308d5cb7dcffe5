"""Position information in BEATs: bucketed relative positions and a grouped positional convolution."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from nlm_jax.core.precision import matmul_precision
from nlm_jax.models.beats.config import BeatsConfig
from nlm_jax.nn.param import new_key, param


@functools.cache
def relative_buckets(tokens: int, buckets: int, max_distance: int) -> np.ndarray:
    """i32[P, P]: bucket of key position minus query position, T5's bidirectional scheme.

    Half the buckets are for keys after the query; half of each half is exact, the rest logarithmic to `max_distance`.
    """
    relative = np.arange(tokens)[None, :] - np.arange(tokens)[:, None]
    return bucket_of(relative, buckets, max_distance)


def bucket_of(relative: np.ndarray, buckets: int, max_distance: int) -> np.ndarray:
    """Bucket of each relative position (integer array of any shape). float32 logarithm, as in the reference."""
    half, distance = buckets // 2, np.abs(relative)
    exact = half // 2
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact)) / np.float32(
        math.log(max_distance / exact)
    )
    far = np.minimum(exact + (ratio * np.float32(half - exact)).astype(np.int64), half - 1)
    return ((relative > 0) * half + np.where(distance < exact, distance, far)).astype(np.int32)


class RelativeBias(nnx.Module):
    """One bias table for all layers (in the reference, layer 0 owns it and shares it)."""

    def __init__(self, cfg: BeatsConfig, *, rngs: nnx.Rngs):
        init = nnx.initializers.glorot_normal()
        self.embedding = param(nnx.Param, init, new_key(rngs), (cfg.buckets, cfg.heads), ("bucket", None))
        self.cfg = cfg

    def __call__(self, tokens: int) -> Float[Array, "N P P"]:
        """f32[N, P, P], query before key, before gating."""
        index = relative_buckets(tokens, self.cfg.buckets, self.cfg.max_distance)
        return self.embedding[...].astype(jnp.float32)[index].transpose(2, 0, 1)


class PositionalConv(nnx.Module):
    """Grouped convolution over time with weight normalisation per tap, then GELU. BEATs `encoder.pos_conv`.

    Weight normalisation is over dimension 2: each of the taps has one gain and is normalised over (out, in).
    """

    def __init__(self, cfg: BeatsConfig, *, rngs: nnx.Rngs):
        shape = (cfg.width, cfg.width // cfg.conv_groups, cfg.conv_taps)
        init = nnx.initializers.normal(math.sqrt(4.0 / (cfg.conv_taps * cfg.width)))
        key = new_key(rngs)
        self.weight_v = param(nnx.Param, init, key, shape, ("embed", None, None))

        def norms(key, _shape, dtype):
            return _tap_norms(init(key, shape, dtype))  # as torch: the first effective weight is weight_v itself

        self.weight_g = param(nnx.Param, norms, key, (1, 1, cfg.conv_taps), (None, None, None))
        self.bias = param(nnx.Param, nnx.initializers.zeros_init(), new_key(rngs), (cfg.width,), ("embed",))
        self.groups = cfg.conv_groups

    def weight(self) -> Float[Array, "D d taps"]:
        """The kernel after weight normalisation."""
        v = self.weight_v[...]
        return v * (self.weight_g[...] / _tap_norms(v))

    def __call__(self, x: Float[Array, "B P D"]) -> Float[Array, "B P D"]:
        # On a CPU, XLA runs grouped convolutions and in particular their gradients as scalar loops.
        y = jax.lax.platform_dependent(
            x,
            self.weight().astype(x.dtype),
            cpu=convolve_by_fft,
            default=functools.partial(convolve, groups=self.groups),
        )
        return jax.nn.gelu(y + self.bias[...].astype(x.dtype), approximate=False)


def convolve(x: Float[Array, "B P D"], weight: Float[Array, "D d taps"], groups: int) -> Float[Array, "B P D"]:
    """Convolution with taps // 2 zeros on both sides; of an even kernel the last output is cut (SamePad)."""
    return jax.lax.conv_general_dilated(
        x,
        weight,
        (1,),
        [_same_pad(weight.shape[2])],
        dimension_numbers=("NWC", "OIW", "NWC"),
        feature_group_count=groups,
        precision=matmul_precision(x.dtype),
    )


def convolve_by_fft(x: Float[Array, "B P D"], weight: Float[Array, "D d taps"]) -> Float[Array, "B P D"]:
    """`convolve` by FFT, in float32: gradients are 25 to 45 times faster on a CPU."""
    (b, p, width), (_, d, taps) = x.shape, weight.shape
    n = -(-(p + taps - 1) // 32) * 32  # a length that is fast to transform
    padded = jnp.pad(x.astype(jnp.float32).transpose(0, 2, 1), ((0, 0), (0, 0), _same_pad(taps)))
    signal = jnp.fft.rfft(padded, n=n).reshape(b, width // d, d, -1)
    kernel = jnp.conj(jnp.fft.rfft(weight.astype(jnp.float32), n=n)).reshape(width // d, d, d, -1)
    product = jnp.einsum("bgif,goif->bgof", signal, kernel, precision=matmul_precision(jnp.float32))
    return jnp.fft.irfft(product.reshape(b, width, -1), n=n)[..., :p].transpose(0, 2, 1).astype(x.dtype)


def _same_pad(taps: int) -> tuple[int, int]:
    return taps // 2, taps // 2 - (1 - taps % 2)


def _tap_norms(v):
    return jnp.sqrt(jnp.square(v).sum((0, 1), keepdims=True))
