"""Windows of encoder tokens -> one vector per window and query."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from nlm_jax.core.precision import matmul_precision
from nlm_jax.mesh.sharding import constrain_rows
from nlm_jax.models.qformer.config import QFormerConfig
from nlm_jax.nn.linear import Linear, dropout, subkey
from nlm_jax.nn.norm import LayerNorm
from nlm_jax.nn.param import new_key, param
from nlm_jax.nn.stack import scan_layers, stack

normal = nnx.initializers.normal(0.02)


class Attention(nnx.Module):
    """BERT attention with its output projection, residual and norm (Qformer.py `BertAttention`)."""

    def __init__(self, cfg: QFormerConfig, source: int, *, rngs: nnx.Rngs):
        def linear(d_in, axes):
            return Linear(d_in, cfg.width, axes, bias=True, init=normal, rngs=rngs)

        self.query = linear(cfg.width, ("embed", "heads"))
        self.key = linear(source, ("embed", "heads"))
        self.value = linear(source, ("embed", "heads"))
        self.dense = linear(cfg.width, ("heads", "embed"))
        self.norm = LayerNorm(cfg.width, eps=cfg.eps, rngs=rngs)
        self.cfg = cfg

    def __call__(self, x: Float[Array, "B Q D"], source: Float[Array, "B S Ds"], key=None) -> Float[Array, "B Q D"]:
        """No mask: the reference attends to every token of a window, padding included."""
        heads = self.cfg.heads
        q, k, v = (y.reshape(*y.shape[:2], heads, -1) for y in (self.query(x), self.key(source), self.value(source)))
        precision = matmul_precision(x.dtype)
        scores = jnp.einsum("BQNH,BSNH->BNQS", q, k, precision=precision, preferred_element_type=jnp.float32)
        probs = jax.nn.softmax(scores / q.shape[-1] ** 0.5, axis=-1).astype(x.dtype)
        probs = dropout(probs, self.cfg.dropout, subkey(key, 0))
        mixed = jnp.einsum("BNQS,BSNH->BQNH", probs, v, precision=precision).reshape(x.shape)
        return self.norm(dropout(self.dense(mixed), self.cfg.dropout, subkey(key, 1)) + x)


class Layer(nnx.Module):
    """Self-attention -> cross-attention -> the query branch of the feed-forward part (Qformer.py `BertLayer`)."""

    def __init__(self, cfg: QFormerConfig, audio_width: int, *, rngs: nnx.Rngs):
        self.self_attn = Attention(cfg, cfg.width, rngs=rngs)
        self.cross_attn = Attention(cfg, audio_width, rngs=rngs)
        self.intermediate = Linear(cfg.width, cfg.mlp, ("embed", "mlp"), bias=True, init=normal, rngs=rngs)
        self.output = Linear(cfg.mlp, cfg.width, ("mlp", "embed"), bias=True, init=normal, rngs=rngs)
        self.output_norm = LayerNorm(cfg.width, eps=cfg.eps, rngs=rngs)
        self.cfg = cfg

    def __call__(self, x: Float[Array, "B Q D"], windows: Float[Array, "B S Ds"], key=None) -> Float[Array, "B Q D"]:
        x, windows = constrain_rows(x), constrain_rows(windows)
        x = self.self_attn(x, x, subkey(key, 0))
        x = self.cross_attn(x, windows, subkey(key, 1))
        y = self.output(jax.nn.gelu(self.intermediate(x), approximate=False))
        return self.output_norm(dropout(y, self.cfg.dropout, subkey(key, 2)) + x)


class QFormerModel(nnx.Module):
    """Learned queries that attend to each window of encoder tokens separately."""

    def __init__(self, cfg: QFormerConfig, audio_width: int, *, rngs: nnx.Rngs):
        shape, axes = (1, cfg.queries, cfg.width), (None, None, "embed")
        self.query_tokens = param(nnx.Param, normal, new_key(rngs), shape, axes)
        self.embed_norm = LayerNorm(cfg.width, eps=cfg.eps, rngs=rngs)
        self.layers = stack(lambda r: Layer(cfg, audio_width, rngs=r), cfg.layers, rngs=rngs)
        self.cfg = cfg

    def __call__(self, tokens: Float[Array, "B P Ds"], *, key=None) -> Float[Array, "B WQ D"]:
        """Vectors [B, W * Q, D] of encoder tokens [B, P, Ds]; tokens of an incomplete last window are ignored."""
        parts = windows(tokens, self.cfg.kernel, self.cfg.stride)
        b, w = parts.shape[:2]
        queries = jnp.broadcast_to(self.query_tokens[...], (b * w, self.cfg.queries, self.cfg.width))
        out = self.attend(queries.astype(tokens.dtype), parts.reshape(b * w, *parts.shape[2:]), key=key)
        return out.reshape(b, w * self.cfg.queries, -1)

    def attend(self, queries: Float[Array, "B Q D"], parts: Float[Array, "B S Ds"], *, key=None):
        """Query vectors [B, Q, D] after all layers; each row attends to its own window [B, S, Ds]."""
        x = dropout(self.embed_norm(queries), self.cfg.dropout, subkey(key, 0))
        keys = None if key is None else jax.random.split(subkey(key, 1), self.cfg.layers)
        return scan_layers(lambda layer, x, k: (layer(x, parts, k), None), self.layers, x, keys)[0]


def windows(tokens: Float[Array, "B P D"], kernel: int, stride: int) -> Float[Array, "B W kernel D"]:
    """All complete windows of `kernel` tokens, one every `stride` tokens.

    Raises:
      ValueError: fewer tokens than one window.
    """
    b, p, d = tokens.shape
    if p < kernel:
        raise ValueError(f"{p} encoder tokens do not fill one Q-Former window of {kernel}")
    count = (p - kernel) // stride + 1
    if kernel == stride:  # the released setting: a plain reshape, no gather
        return tokens[:, : count * kernel].reshape(b, count, kernel, d)
    return tokens[:, np.arange(count)[:, None] * stride + np.arange(kernel)[None, :]]
