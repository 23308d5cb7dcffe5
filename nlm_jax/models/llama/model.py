"""The Llama decoder: embeddings in, hidden states or logits out. The caller passes the attention function."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

from nlm_jax.core.precision import matmul_precision
from nlm_jax.mesh.sharding import constrain_rows
from nlm_jax.models.llama.config import LlamaConfig
from nlm_jax.nn.linear import Linear, subkey
from nlm_jax.nn.norm import RMSNorm
from nlm_jax.nn.param import new_key, param
from nlm_jax.nn.remat import MLP
from nlm_jax.nn.rope import rope_tables, rotate
from nlm_jax.nn.stack import scan_layers, stack

normal = nnx.initializers.normal(0.02)


class Embedding(nnx.Module):
    """Token embeddings [V, D]."""

    def __init__(self, cfg: LlamaConfig, *, rngs: nnx.Rngs):
        self.embedding = param(nnx.Param, normal, new_key(rngs), (cfg.vocab, cfg.width), ("vocab", "embed"))

    def __call__(self, tokens: Int[Array, "B S"], dtype) -> Float[Array, "B S D"]:
        return self.embedding[...][tokens].astype(dtype)


class LlamaLayer(nnx.Module):
    """Pre-norm attention and SwiGLU. transformers' `LlamaDecoderLayer`, with LoRA on q, k, v, o."""

    def __init__(self, cfg: LlamaConfig, *, rngs: nnx.Rngs):
        def linear(d_in, d_out, axes, bias, lora=None):
            return Linear(d_in, d_out, axes, bias=bias, lora=lora, init=normal, rngs=rngs)

        d, heads, kv = cfg.width, cfg.heads * cfg.head_dim, cfg.kv_heads * cfg.head_dim
        self.input_norm = RMSNorm(d, eps=cfg.eps, rngs=rngs)
        self.q_proj = linear(d, heads, ("embed", "heads"), cfg.attention_bias, cfg.lora)
        self.k_proj = linear(d, kv, ("embed", "kv_heads"), cfg.attention_bias, cfg.lora)
        self.v_proj = linear(d, kv, ("embed", "kv_heads"), cfg.attention_bias, cfg.lora)
        self.o_proj = linear(heads, d, ("heads", "embed"), cfg.attention_bias, cfg.lora)
        self.post_norm = RMSNorm(d, eps=cfg.eps, rngs=rngs)
        self.gate_proj = linear(d, cfg.mlp, ("embed", "mlp"), cfg.mlp_bias)
        self.up_proj = linear(d, cfg.mlp, ("embed", "mlp"), cfg.mlp_bias)
        self.down_proj = linear(cfg.mlp, d, ("mlp", "embed"), cfg.mlp_bias)
        self.cfg = cfg

    def __call__(self, x: Float[Array, "B S D"], rope, mix: Callable, key=None):
        """One layer.

        Args:
          x: hidden states.
          rope: see `nn.rope.rope_tables`.
          mix: `(q, k, v) -> (attention output [B, S, N, H], cache)`.
          key: enables LoRA's dropout.

        Returns:
          hidden states, and the cache that `mix` returned.
        """
        b, s, _ = x.shape
        x = constrain_rows(x)
        y = self.input_norm(x)
        q, k, v = (
            proj(y, subkey(key, i)).reshape(b, s, -1, self.cfg.head_dim)
            for i, proj in enumerate((self.q_proj, self.k_proj, self.v_proj))
        )
        out, cache = mix(rotate(q, rope), rotate(k, rope), v)
        x = x + self.o_proj(out.reshape(b, s, -1), subkey(key, 3))
        y = self.post_norm(x)
        gate, up = checkpoint_name((self.gate_proj(y), self.up_proj(y)), MLP)
        return x + self.down_proj(jax.nn.silu(gate) * up), cache


class LlamaModel(nnx.Module):
    """transformers' `LlamaForCausalLM`; `logits` is separate, as few positions need them."""

    def __init__(self, cfg: LlamaConfig, *, rngs: nnx.Rngs):
        self.embed_tokens = Embedding(cfg, rngs=rngs)
        self.layers = stack(lambda r: LlamaLayer(cfg, rngs=r), cfg.layers, rngs=rngs)
        self.norm = RMSNorm(cfg.width, eps=cfg.eps, rngs=rngs)
        head = None if cfg.tied else Linear(cfg.width, cfg.vocab, ("embed", "vocab"), init=normal, rngs=rngs)
        self.lm_head = head
        self.cfg = cfg

    def __call__(
        self,
        x: Float[Array, "B S D"],
        positions: Int[Array, "B S"],
        mix: Callable,
        cache=None,
        *,
        remat: str = "none",
        key=None,
    ):
        """Runs all layers.

        Args:
          x: input embeddings.
          positions: position of each token within its example.
          mix: `(cache, layer, q, k, v) -> (out, cache)`: the attention of one layer.
          cache: a value passed through `mix` from layer to layer; None in training.
          remat: see `nn.stack.REMAT`.
          key: enables LoRA's dropout.

        Returns:
          hidden states [B, S, D] after the last norm, and the cache after the last layer.
        """
        rope = rope_tables(positions, self.cfg.head_dim, self.cfg.rope_theta, self.cfg.rope_scaling)
        keys = None if key is None else jax.random.split(key, self.cfg.layers)

        def apply(layer, carry, index, key):
            x, cache = carry
            return layer(x, rope, lambda q, k, v: mix(cache, index, q, k, v), key), None

        order = jnp.arange(self.cfg.layers)
        (x, cache), _ = scan_layers(apply, self.layers, (x, cache), order, keys, remat=remat)
        return self.norm(x), cache

    def logits(self, hidden: Float[Array, "B S D"]) -> Float[Array, "B S V"]:
        """f32[B, S, V], over all rows of the vocabulary, the appended [PAD] row included."""
        tied = self.lm_head is None
        head = self.embed_tokens.embedding[...].T if tied else self.lm_head.kernel[...]
        head, hidden = head.astype(hidden.dtype), constrain_rows(hidden)
        precision = matmul_precision(hidden.dtype)
        return jnp.matmul(hidden, head, precision=precision, preferred_element_type=jnp.float32)
