"""Layers stored stacked on axis 0 and run by one scan: compile time does not grow with depth."""

from collections.abc import Callable

import jax
from flax import nnx

from nlm_jax.core.errors import UserError
from nlm_jax.mesh.sharding import gather_weights
from nlm_jax.nn.param import new_key
from nlm_jax.nn.remat import ATTENTION, MLP

REMAT = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "attention": jax.checkpoint_policies.save_only_these_names(ATTENTION),
    "mlp": jax.checkpoint_policies.save_only_these_names(ATTENTION, MLP),
}
"""Activations saved for the backward pass besides the layers' inputs: everything, nothing, the results of weight
matmuls, the output of attention, or that and the MLP's inner activations."""


def stack(make: Callable[[nnx.Rngs], nnx.Module], depth: int, *, rngs: nnx.Rngs, axis: str = "layers"):
    """Creates `depth` layers as one module whose variables have a leading axis named `axis`.

    Args:
      make: creates one layer from its random keys.
    """
    layer = nnx.transform_metadata(lambda key: make(nnx.Rngs(params=key)), in_axes=0, out_axes=0, partition=axis)
    return jax.vmap(layer)(jax.random.split(new_key(rngs), depth))


def scan_layers(apply: Callable, layers, carry, *per_layer, remat: str = "none"):
    """Runs `carry, y = apply(layer, carry, *xs)` through every layer.

    Args:
      apply: one layer's computation.
      layers: a module made by `stack`.
      carry: value passed from layer to layer.
      per_layer: pytrees whose leaves have the layer axis first (None allowed).
      remat: a name of `REMAT`.

    Returns:
      the last carry, and the stacked `y`.

    Raises:
      UserError: an unknown `remat`.
    """
    if remat not in REMAT:
        raise UserError(f"remat={remat!r}: no such policy; use one of {', '.join(REMAT)}")

    def body(carry, xs):
        return apply(gather_weights(xs[0]), carry, *xs[1:])

    if remat != "none":
        body = jax.checkpoint(body, policy=REMAT[remat], prevent_cse=False)
    return jax.lax.scan(body, carry, (layers, *per_layer))
