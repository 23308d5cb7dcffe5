"""Parameters with logical axes. No other module depends on Flax's metadata key."""

import jax
import jax.numpy as jnp
from flax import nnx


def param(kind: type[nnx.Variable], init, key, shape: tuple[int, ...], axes: tuple[str | None, ...]) -> nnx.Variable:
    """A float32 variable of `shape`, one logical axis name (or None) for each dimension.

    Raises:
      ValueError: the ranks differ; a missing name would silently shard another axis.
    """
    if len(shape) != len(axes):
        raise ValueError(f"shape {shape} and logical axes {axes} differ in rank")
    return kind(init(key, shape, jnp.float32), out_sharding=axes, eager_sharding=False)


def new_key(rngs: nnx.Rngs) -> jax.Array:
    """The key that `rngs.params()` would return; advances its counter likewise.

    Skips the check of the counter's sharding in `rngs.params()`, which formats a long unused message for a traced
    counter and thereby doubles the time to trace the initialization.
    """
    stream = rngs.params
    count = stream.count.get_value()
    stream.count.set_value(count + 1)
    return jax.random.fold_in(stream.key.get_value(), count)
