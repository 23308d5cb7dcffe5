"""Parameters with logical axes. The only place that knows Flax's metadata key."""

import jax
import jax.numpy as jnp
from flax import nnx


def param(kind: type[nnx.Variable], init, key, shape: tuple[int, ...], axes: tuple[str | None, ...]) -> nnx.Variable:
    """A float32 variable of `shape`, one logical axis name (or None) for each dimension.

    Raises:
      ValueError: when the ranks differ; a missing name would silently shard another axis.
    """
    if len(shape) != len(axes):
        raise ValueError(f"shape {shape} and logical axes {axes} differ in rank")
    return kind(init(key, shape, jnp.float32), out_sharding=axes, eager_sharding=False)


def new_key(rngs: nnx.Rngs) -> jax.Array:
    """The key that `rngs.params()` gives, and counts on.

    Without its look at where the counter is placed: of a traced one that makes a long message nobody reads, which takes
    as much time as all else in tracing the initialisation.
    """
    stream = rngs.params
    count = stream.count.get_value()
    stream.count.set_value(count + 1)
    return jax.random.fold_in(stream.key.get_value(), count)
