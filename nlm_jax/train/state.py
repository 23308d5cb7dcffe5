"""`TrainState`: everything a step reads and writes, created where it will live."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from nlm_jax.core.precision import dtype
from nlm_jax.core.tree import map_named


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
    return dtype(base_dtype) if path.startswith("llama/") and not trains else jnp.dtype(jnp.float32)


def make_init(
    build: Callable[[], nnx.Module],
    tx: optax.GradientTransformation,
    trainable,
    *,
    base_dtype: str = "bfloat16",
    given: Callable[[str], bool] = lambda path: False,
) -> Callable[[], TrainState]:
    """A function without arguments that makes a fresh state; run it under `jit(out_shardings=...)`.

    Args:
      build: the model with random weights.
      trainable: NNX filter of what trains.
      base_dtype: of the frozen language model.
      given: paths whose weights come from files; they start as zeros, so that no random 8B is drawn in vain.
    """

    def init() -> TrainState:
        _, train, frozen = nnx.split(build(), trainable, ...)

        def prepare(trains):
            def one(path, leaf):
                leaf = leaf.astype(storage(path, trains, base_dtype, leaf.dtype))
                return jnp.zeros_like(leaf) if given(path) else leaf

            return one

        train, frozen = map_named(prepare(True), train), map_named(prepare(False), frozen)
        return TrainState(jnp.zeros((), jnp.int32), train, frozen, tx.init(train))

    return init


def merged(graphdef, state: TrainState) -> nnx.Module:
    """The model of a state, for evaluation and for answers."""
    return nnx.merge(graphdef, state.trainable, state.frozen)
