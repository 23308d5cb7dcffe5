"""Key/value cache of every layer, updated in place inside a compiled loop."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from nlm_jax.nn.attention import attend


@functools.partial(jax.tree_util.register_dataclass, data_fields=("k", "v", "valid", "end"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class KVCache:
    """Slots are written in order and are the same for every row; prompts are padded on the left to end together."""

    k: Float[Array, "L B Sk K H"]
    v: Float[Array, "L B Sk K H"]
    valid: Bool[Array, "B Sk"]
    """False at left padding and at slots not yet written."""
    end: Int[Array, ""]
    """Slots written so far."""


def empty(layers: int, rows: int, slots: int, kv_heads: int, head: int, dtype) -> KVCache:
    """A cache with room for `slots` positions of `rows` rows."""
    shape = (layers, rows, slots, kv_heads, head)
    valid = jnp.zeros((rows, slots), bool)
    return KVCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), valid, jnp.zeros((), jnp.int32))


def admit(cache: KVCache, real: Bool[Array, "B S"]) -> KVCache:
    """Marks the next S slots, which the following `mix_cached` pass fills, as real or padding."""
    return dataclasses.replace(cache, valid=jax.lax.dynamic_update_slice(cache.valid, real, (0, cache.end)))


def advance(cache: KVCache, slots: int) -> KVCache:
    """After all layers have written their `slots` positions."""
    return dataclasses.replace(cache, end=cache.end + slots)


def mix_cached(cache: KVCache, layer: Int[Array, ""], q, k, v):
    """Writes k, v [B, S, K, H] of one layer behind the cache's end and attends causally to all valid slots."""
    at = (layer, 0, cache.end, 0, 0)
    cache = dataclasses.replace(
        cache,
        k=jax.lax.dynamic_update_slice(cache.k, k[None].astype(cache.k.dtype), at),
        v=jax.lax.dynamic_update_slice(cache.v, v[None].astype(cache.v.dtype), at),
    )
    keys, values = (jax.lax.dynamic_index_in_dim(a, layer, keepdims=False) for a in (cache.k, cache.v))
    query = cache.end + jnp.arange(q.shape[1])
    causal = query[:, None] >= jnp.arange(keys.shape[1])[None, :]
    return attend(q, keys, values, causal[None] & cache.valid[:, None, :]), cache
