"""Key/value cache of every layer, updated in place inside a compiled loop."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from nlm_jax.mesh.axes import ROWS
from nlm_jax.mesh.sharding import divisible
from nlm_jax.nn.attention import attend


@functools.partial(jax.tree_util.register_dataclass, data_fields=("k", "v"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class KVCache:
    """Keys and values by row and slot. The caller decides which slots a query may attend to, see `attend_cached`.

    The order of axes (rows first, slots after heads) lets XLA write one row's keys in place and read them without a
    transposition. With another order it copies the cache of all layers once per layer and step.
    """

    k: Float[Array, "B L K Sk H"]
    v: Float[Array, "B L K Sk H"]

    @property
    def slots(self) -> int:
        """Number of positions per row."""
        return self.k.shape[3]


def empty(layers: int, rows: int, slots: int, kv_heads: int, head: int, dtype) -> KVCache:
    """A cache of zeros for `slots` positions of `rows` rows."""
    shape = (rows, layers, kv_heads, slots, head)
    return shard(KVCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)))


def shard(cache: KVCache) -> KVCache:
    """Constrains the sharding of a cache: rows over (data, fsdp), heads over tensor if they divide."""
    mesh = jax.sharding.get_abstract_mesh()
    if not set(ROWS) <= set(mesh.axis_names):
        return cache
    spec = divisible(cache.k.shape, PartitionSpec(ROWS, None, "tensor"), mesh)
    return jax.tree.map(lambda a: jax.lax.with_sharding_constraint(a, spec), cache)


def extend(cache: KVCache, slots: int) -> KVCache:
    """Appends empty slots, up to `slots` in all."""
    padding = [(0, 0), (0, 0), (0, 0), (0, slots - cache.slots), (0, 0)]
    return shard(jax.tree.map(lambda a: jnp.pad(a, padding), cache))


def attend_cached(start: Int[Array, "B"], visible: Bool[Array, "B S Sk"]) -> Callable:
    """Attention over a cache for one pass over S new positions, as the argument of `LlamaModel.__call__`.

    Args:
      start: first of the S slots to which each row's new keys and values are written.
      visible: slots that each of the S queries attends to, the new ones included. The content of the others, even
        NaN, does not affect the result.

    Returns:
      a function (cache, layer, q, k, v) -> (attention output, updated cache).
    """
    used = visible.any(1)[:, None, :, None]

    def attend_layer(cache: KVCache, layer: Int[Array, ""], q, k, v):
        """Writes k, v [B, S, K, H] of one layer, then attends."""

        def write(old, new, start):
            new = new.swapaxes(0, 1)[None].astype(old.dtype)
            return jax.lax.dynamic_update_slice(old, new, (layer, 0, start, 0))

        cache = KVCache(jax.vmap(write)(cache.k, k, start), jax.vmap(write)(cache.v, v, start))
        keys, values = (jax.lax.dynamic_index_in_dim(a, layer, 1, keepdims=False) for a in (cache.k, cache.v))
        values = jnp.where(used, values, 0)  # their weight is 0, and 0 * NaN is NaN
        return attend(q, keys.swapaxes(1, 2), values.swapaxes(1, 2), visible), cache

    return attend_layer
