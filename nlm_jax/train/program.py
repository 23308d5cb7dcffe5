"""A stage made ready to run: the shapes and places of its state, and its compiled functions."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from nlm_jax.core.tree import map_named, named_leaves
from nlm_jax.mesh.rules import Rules
from nlm_jax.mesh.sharding import check_heads, check_rows, replicated, rows_sharding
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.models.naturelm import NatureLMModel
from nlm_jax.nn.attention import check_attention, choose_attention
from nlm_jax.nn.int8 import int8_base
from nlm_jax.train.config import Stage, TrainConfig
from nlm_jax.train.optim import optimizer, schedule
from nlm_jax.train.partition import check, trainable
from nlm_jax.train.state import TrainState, abstract_state, state_shardings
from nlm_jax.train.step import make_step
from nlm_jax.train.weights import complete


@dataclasses.dataclass(frozen=True)
class Program:
    """Everything of a stage that is fixed before its first step."""

    stage: Stage
    model: NatureLMConfig
    mesh: Mesh
    graphdef: nnx.GraphDef
    build: Callable[[], nnx.Module]
    """The model with random weights."""
    tx: optax.GradientTransformation
    abstract: TrainState
    """Shapes and dtypes of the state."""
    shardings: TrainState
    step: Callable[..., Any]
    """(state, batch) -> (state, metrics); the state is donated."""

    def targets(self) -> dict[str, jax.ShapeDtypeStruct]:
        """State path -> shape, dtype and sharding of every leaf."""
        places = named_leaves(self.shardings)
        leaves = named_leaves(self.abstract)
        return {p: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=places[p]) for p, x in leaves.items()}

    def params(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The same of the model's parameters, by their own paths."""
        parts = {p: x for p, x in self.targets().items() if p.startswith(("trainable/", "frozen/"))}
        return {p.partition("/")[2]: x for p, x in parts.items()}

    def start(self, params: Mapping[str, jax.Array], opt: Mapping[str, jax.Array] | None = None) -> TrainState:
        """A state with the weights `params`, random ones where it lacks some, and `opt` or a fresh optimiser."""
        leaves = complete(self.build, self.params(), params)
        parts = [
            map_named(lambda path, _: leaves[path], part) for part in (self.abstract.trainable, self.abstract.frozen)
        ]
        if opt is None:
            places = (self.shardings.step, self.shardings.opt)
            fresh = jax.jit(lambda t: (jnp.zeros((), jnp.int32), self.tx.init(t)), out_shardings=places)
            step, moments = fresh(parts[0])
        else:
            step = opt["step"]
            moments = map_named(lambda path, _: opt[f"opt/{path}"], self.abstract.opt)
        return TrainState(step, *parts, moments)


def make_program(config: TrainConfig, stage: Stage, model: NatureLMConfig, mesh: Mesh, rules: Rules) -> Program:
    """Traces the model once without allocating it; compilation waits for the first step.

    Raises:
      UserError: the mesh does not divide rows or heads, or a component to be trained has no parameters.
    """
    check_rows(stage.data.rows // stage.accumulate, mesh)
    check_heads(model.llama.heads, mesh)
    platform = mesh.devices.flat[0].platform
    attention = choose_attention(model.attention, platform, stage.data.row_tokens, model.llama.head_dim)
    check_attention(attention, model.compute_dtype, platform)
    model = dataclasses.replace(model, attention=attention)

    def build():
        made = NatureLMModel(model, rngs=nnx.Rngs(params=config.seed))
        return int8_base(made) if config.model.base_dtype == "int8" else made

    tx = optimizer(stage.optim, stage.steps)
    graphdef, template = nnx.split(nnx.eval_shape(build))
    check(stage.train, named_leaves(template))
    abstract = abstract_state(template, tx, trainable(stage.train), config.model.base_dtype)
    places = state_shardings(abstract, mesh, rules)
    learning_rate, seed = schedule(stage.optim, stage.steps), config.seed + config.stages.index(stage)
    step = make_step(graphdef, tx, learning_rate, seed=seed, accumulate=stage.accumulate, rules=rules)
    batch, whole = rows_sharding(mesh), replicated(mesh)
    return Program(
        stage=stage,
        model=model,
        mesh=mesh,
        graphdef=graphdef,
        build=build,
        tx=tx,
        abstract=abstract,
        shardings=places,
        step=jax.jit(step, in_shardings=(places, batch), out_shardings=(places, whole), donate_argnums=0),
    )
