"""Key/value cache of every layer, updated in place inside a compiled loop."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from nlm_jax.mesh.axes import ROWS
from nlm_jax.mesh.place import divisible
from nlm_jax.nn.attention import attend


@functools.partial(jax.tree_util.register_dataclass, data_fields=("k", "v"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class KVCache:
    """Keys and values by row and slot. Which slots a query may see is the caller's to say, see `mix_cached`.

    Rows stand first and slots behind the heads: so that one row's keys are written in place, and read by attention as
    they lie. In another order XLA copies the cache of all layers once for each layer and step.
    """

    k: Float[Array, "B L K Sk H"]
    v: Float[Array, "B L K Sk H"]

    @property
    def slots(self) -> int:
        return self.k.shape[3]


def empty(layers: int, rows: int, slots: int, kv_heads: int, head: int, dtype) -> KVCache:
    """A cache with room for `slots` positions of `rows` rows."""
    shape = (rows, layers, kv_heads, slots, head)
    return held(KVCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)))


def held(cache: KVCache) -> KVCache:
    """The cache kept in pieces on a mesh: rows over (data, fsdp), heads over tensor where they divide."""
    mesh = jax.sharding.get_abstract_mesh()
    if not set(ROWS) <= set(mesh.axis_names):
        return cache
    spec = divisible(cache.k.shape, PartitionSpec(ROWS, None, "tensor"), mesh)
    return jax.tree.map(lambda a: jax.lax.with_sharding_constraint(a, spec), cache)


def longer(cache: KVCache, slots: int) -> KVCache:
    """The cache with empty slots behind, `slots` in all."""
    more = [(0, 0), (0, 0), (0, 0), (0, slots - cache.slots), (0, 0)]
    return held(jax.tree.map(lambda a: jnp.pad(a, more), cache))


def mix_cached(at: Int[Array, "B"], visible: Bool[Array, "B S Sk"]) -> Callable:
    """The attention of one pass over S new positions, for `Llama.__call__`.

    Args:
      at: slot where each row's new keys and values are written, S in a row.
      visible: which slots each of the S queries sees, the new ones included. Whatever the others hold, NaN too, has
        no part in the result.
    """
    seen = visible.any(1)[:, None, :, None]

    def mix(cache: KVCache, layer: Int[Array, ""], q, k, v):
        """Writes k, v [B, S, K, H] of one layer, and attends."""

        def write(old, new, at):
            new = new.swapaxes(0, 1)[None].astype(old.dtype)
            return jax.lax.dynamic_update_slice(old, new, (layer, 0, at, 0))

        cache = KVCache(jax.vmap(write)(cache.k, k, at), jax.vmap(write)(cache.v, v, at))
        keys, values = (jax.lax.dynamic_index_in_dim(a, layer, 1, keepdims=False) for a in (cache.k, cache.v))
        values = jnp.where(seen, values, 0)  # their weight is 0, and 0 * NaN is NaN
        return attend(q, keys.swapaxes(1, 2), values.swapaxes(1, 2), visible), cache

    return mix
