"""The BEATs encoder: waveform -> tokens."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from nlm_jax.audio.fbank import fbank
from nlm_jax.core.frames import MEL_BINS, PATCH
from nlm_jax.mesh.sharding import constrain_rows
from nlm_jax.models.beats.config import BeatsConfig
from nlm_jax.models.beats.layer import BeatsLayer, scale_gradient
from nlm_jax.models.beats.position import PositionalConv, RelativeBias
from nlm_jax.nn.linear import Linear
from nlm_jax.nn.norm import LayerNorm
from nlm_jax.nn.stack import scan_layers, stack


class BeatsModel(nnx.Module):
    """BEATs.py `BEATs.extract_features`, up to the encoder output (the AudioSet head is loaded but not used)."""

    def __init__(self, cfg: BeatsConfig, *, rngs: nnx.Rngs):
        uniform = nnx.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")  # torch's default
        self.patch_embedding = Linear(PATCH * PATCH, cfg.patch_dim, (None, "patch"), init=uniform, rngs=rngs)
        self.patch_norm = LayerNorm(cfg.patch_dim, axis="patch", rngs=rngs)
        self.patch_proj = Linear(cfg.patch_dim, cfg.width, ("patch", "embed"), bias=True, init=uniform, rngs=rngs)
        self.pos_conv = PositionalConv(cfg, rngs=rngs)
        self.norm = LayerNorm(cfg.width, rngs=rngs)
        self.relative_bias = RelativeBias(cfg, rngs=rngs)
        self.layers = stack(lambda r: BeatsLayer(cfg, rngs=r), cfg.layers, rngs=rngs)
        head = cfg.predictor_classes
        self.predictor = Linear(cfg.width, head, ("embed", None), bias=True, rngs=rngs) if head else None
        self.cfg = cfg

    def __call__(
        self,
        waveform: Float[Array, "B samples"],
        padding: Bool[Array, "B samples"] | None = None,
        *,
        dtype=jnp.float32,
        remat: str = "none",
        key=None,
    ) -> Float[Array, "B P D"]:
        """Encodes 16 kHz waveforms in [-1, 1] into P = n_tokens(samples) tokens.

        Args:
          waveform: f32[B, T].
          padding: bool[B, T], True = padding sample; None = no padding.
          dtype: of the activations. The filter bank stays float32.
          remat: see `nn.stack.REMAT`.
          key: enables layerdrop (training).
        """
        features = fbank(waveform)
        padding = None if padding is None else reduce_mask(padding, features.shape[1])
        return self.encode(features.astype(dtype), padding, remat=remat, key=key)

    def encode(
        self,
        features: Float[Array, "B frames 128"],
        padding: Bool[Array, "B frames"] | None = None,
        *,
        remat: str = "none",
        key=None,
    ) -> Float[Array, "B P D"]:
        """Encodes filter-bank frames; masked inputs are set to zero before the positional convolution."""
        x = constrain_rows(self.patch_proj(self.patch_norm(self.patch_embedding(patches(features)))))
        if padding is not None:
            padding = reduce_mask(padding, x.shape[1])
            x = jnp.where(padding[..., None], 0, x)
        x = self.norm(x + self.pos_conv(x))
        bias = self.relative_bias(x.shape[1])
        draws = None if key is None else jax.random.uniform(key, (self.cfg.layers,))

        def apply(layer, x, draw):
            x = scale_gradient(x, self.cfg.grad_decay)
            y = layer(x, bias, padding)
            # A dropped layer returns its input; the gradient is scaled all the same, as in the reference.
            return (y if draw is None else jnp.where(draw > self.cfg.layerdrop, y, x)), None

        return scan_layers(apply, self.layers, x, draws, remat=remat)[0]


def patches(features: Float[Array, "B frames 128"]) -> Float[Array, "B P 256"]:
    """16 x 16 patches, time-major (frequency fastest); frames of an incomplete last patch are dropped."""
    b, steps = features.shape[0], features.shape[1] // PATCH
    x = features[:, : steps * PATCH].reshape(b, steps, PATCH, MEL_BINS // PATCH, PATCH)
    return x.transpose(0, 1, 3, 2, 4).reshape(b, -1, PATCH * PATCH)


def reduce_mask(padding: Bool[Array, "B fine"], coarse: int) -> Bool[Array, "B coarse"]:
    """Padding at a coarser resolution: the remainder is trimmed, then a cell is padding if all of it is.

    BEATs `forward_padding_mask`, applied twice (samples to frames, frames to tokens).
    """
    trimmed = padding[:, : padding.shape[1] - padding.shape[1] % coarse]
    return trimmed.reshape(padding.shape[0], coarse, -1).all(-1)
