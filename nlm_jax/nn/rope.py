"""Rotary position embedding in the half-split form of transformers, with Llama 3's frequency scaling."""

import dataclasses
import functools
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """`kind` "llama3" (wavelength-dependent, Llama 3.1+) or "linear" (positions divided by `factor`)."""

    kind: str
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192


@functools.cache
def inverse_frequencies(head: int, theta: float, scaling: RopeScaling | None) -> np.ndarray:
    """f32[H / 2]: angle of one position step, per pair of channels.

    Source: transformers.modeling_rope_utils (`_compute_llama3_parameters`). Frequencies of long wavelengths are divided
    by the factor, those of short ones unchanged, those between interpolated. Errors show at long positions only.
    """
    exponent = np.arange(0, head, 2, dtype=np.int64).astype(np.float32) / np.float32(head)
    # The nearest float32, as in torch: numpy's own float32 power depends on the processor.
    power = np.power(float(np.float32(theta)), exponent.astype(np.float64)).astype(np.float32)
    inv = np.float32(1.0) / power
    if scaling is None:
        return inv
    if scaling.kind == "linear":
        return (inv / np.float32(scaling.factor)).astype(np.float32)
    wavelength = (2 * math.pi / inv).astype(np.float32)
    low = scaling.original_max_positions / scaling.low_freq_factor
    high = scaling.original_max_positions / scaling.high_freq_factor
    smooth = scaling.original_max_positions / wavelength - scaling.low_freq_factor
    smooth = (smooth / (scaling.high_freq_factor - scaling.low_freq_factor)).astype(np.float32)
    blended = (1 - smooth) * inv / scaling.factor + smooth * inv
    scaled = np.where(wavelength > low, inv / scaling.factor, np.where(wavelength < high, inv, blended))
    return scaled.astype(np.float32)


def rope_tables(
    positions: Int[Array, "B S"], head: int, theta: float, scaling: RopeScaling | None
) -> tuple[Float[Array, "B S 1 h"], Float[Array, "B S 1 h"]]:
    """Cosines and sines of the rotation angles of every position, f32[B, S, 1, H / 2] each."""
    angles = positions[:, :, None, None].astype(jnp.float32) * inverse_frequencies(head, theta, scaling)
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: Float[Array, "B S N H"], rope) -> Float[Array, "B S N H"]:
    """Rotates channel i with channel i + H / 2 (transformers' `rotate_half`, not the interleaved form)."""
    cos, sin = rope
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
