"""`TrainState`: everything a step reads and writes, created where it will live."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from nlm_jax.core.precision import dtype
from nlm_jax.core.tree import map_named
from nlm_jax.mesh.rules import FROZEN, Rules
from nlm_jax.mesh.sharding import replicated, shardings
from nlm_jax.nn.int8 import SCALE


@functools.partial(jax.tree_util.register_dataclass, data_fields=("step", "trainable", "frozen", "opt"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Arrays, or in the same structure their shapes or shardings."""

    step: Any
    """i32[]: steps done within the stage."""
    trainable: Any
    """nnx.State in float32."""
    frozen: Any
    """nnx.State that never changes; what no stage trains of it is not saved."""
    opt: Any
    """The optimiser's moments and counters."""


def storage(path: str, trains: bool, base_dtype: str, leaf_dtype):
    """Dtype of a parameter in training: the frozen language model in `base_dtype`, every other float in float32."""
    if not jnp.issubdtype(leaf_dtype, jnp.floating):
        return leaf_dtype
    if trains or not path.startswith("llama/") or path.endswith(SCALE):
        return jnp.dtype(jnp.float32)
    return dtype("bfloat16" if base_dtype == "int8" else base_dtype)


def abstract_state(params, tx: optax.GradientTransformation, trainable, base_dtype: str = "bfloat16") -> TrainState:
    """Shapes and dtypes of a state, from those of the model's parameters.

    Args:
      params: nnx.State of shapes.
      trainable: NNX filter of what trains.
      base_dtype: of the frozen language model.
    """
    train, frozen = nnx.split_state(params, trainable, ...)

    def stored(trains):
        return lambda path, x: jax.ShapeDtypeStruct(x.shape, storage(path, trains, base_dtype, x.dtype))

    train, frozen = map_named(stored(True), train), map_named(stored(False), frozen)
    return TrainState(jax.ShapeDtypeStruct((), jnp.int32), train, frozen, jax.eval_shape(tx.init, train))


def state_shardings(abstract: TrainState, mesh: Mesh, rules: Rules) -> TrainState:
    """Sharding of every leaf of a state; frozen weights are whole on every device if the rules say so (`FROZEN`)."""
    places = shardings(abstract, mesh, rules)
    if FROZEN not in dict(rules):
        return places
    return dataclasses.replace(places, frozen=jax.tree.map(lambda _: replicated(mesh), places.frozen))


def merged(graphdef, state: TrainState) -> nnx.Module:
    """The model of a state, for evaluation and for answers."""
    return nnx.merge(graphdef, state.trainable, state.frozen)
