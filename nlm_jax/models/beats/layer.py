"""One BEATs layer: post-norm self-attention with a gated relative bias, then a feed-forward part."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from nlm_jax.mesh.sharding import constrain_rows
from nlm_jax.models.beats.config import BeatsConfig
from nlm_jax.nn.gated_attention import gated_attention
from nlm_jax.nn.linear import Linear
from nlm_jax.nn.norm import LayerNorm
from nlm_jax.nn.param import new_key, param


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def scale_gradient(x, factor: float):
    """The identity whose gradient is multiplied by `factor`. BEATs `GradMultiply`."""
    return x


scale_gradient.defvjp(lambda x, factor: (x, None), lambda factor, _, g: (g * factor,))


class BeatsLayer(nnx.Module):
    """backbone.py `TransformerSentenceEncoderLayer` with deep_norm and gru_rel_pos."""

    def __init__(self, cfg: BeatsConfig, *, rngs: nnx.Rngs):
        def linear(d_in, d_out, axes, gain):
            init = nnx.initializers.variance_scaling(gain**2, "fan_avg", "normal")
            return Linear(d_in, d_out, axes, bias=True, init=init, rngs=rngs)

        d, f, gain = cfg.width, cfg.mlp, cfg.init_gain
        self.q_proj = linear(d, d, ("embed", "heads"), 1.0)
        self.k_proj = linear(d, d, ("embed", "heads"), 1.0)
        self.v_proj = linear(d, d, ("embed", "heads"), gain)
        self.out_proj = linear(d, d, ("heads", "embed"), gain)
        self.grep_linear = linear(cfg.head, 8, (None, None), 1.0)
        ones = nnx.initializers.ones_init()
        self.grep_a = param(nnx.Param, ones, new_key(rngs), (1, cfg.heads, 1, 1), (None, None, None, None))
        self.attn_norm = LayerNorm(d, rngs=rngs)
        self.fc1 = linear(d, f, ("embed", "mlp"), gain)
        self.fc2 = linear(f, d, ("mlp", "embed"), gain)
        self.final_norm = LayerNorm(d, rngs=rngs)
        self.cfg = cfg

    def __call__(
        self, x: Float[Array, "B P D"], bias: Float[Array, "N P P"], padding: Bool[Array, "B P"] | None
    ) -> Float[Array, "B P D"]:
        """One layer.

        Args:
          x: tokens.
          bias: the position bias before gating.
          padding: True at keys that are masked.
        """
        x, alpha = constrain_rows(x), self.cfg.residual_scale
        x = self.attn_norm(x * alpha + self.attention(x, bias, padding))
        return self.final_norm(x * alpha + _gelu_linear(self.fc1(x), self.fc2))

    def attention(self, x, bias, padding) -> Float[Array, "B P D"]:
        """Self-attention with its output projection."""
        b, p, _ = x.shape
        q, k, v = (proj(x).reshape(b, p, self.cfg.heads, -1) for proj in (self.q_proj, self.k_proj, self.v_proj))
        mixed = gated_attention(q, k, v, self.gate(q), bias, padding)
        return self.out_proj(mixed.reshape(b, p, -1))

    def gate(self, q: Float[Array, "B P N H"]) -> Float[Array, "B N P 1"]:
        """Gate of the position bias for each query: f32[B, N, P, 1], from the unscaled q."""
        pair = self.grep_linear(q).reshape(*q.shape[:3], 2, 4).sum(-1).astype(jnp.float32)
        a, b = jnp.split(jax.nn.sigmoid(pair).transpose(0, 2, 1, 3), 2, axis=-1)
        return a * (b * self.grep_a[...].astype(jnp.float32) - 1.0) + 2.0


@functools.partial(jax.checkpoint, prevent_cse=False)
def _gelu_linear(h, linear):
    """linear(gelu(h)), exact GELU. Saves `h` alone for the backward pass instead of four arrays of its size."""
    return linear(jax.nn.gelu(h, approximate=False))
