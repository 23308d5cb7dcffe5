"""A stage ready to run: shapes and shardings of its state, and its compiled step."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
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
from nlm_jax.train.optim import OptimConfig, optimizer, schedule
from nlm_jax.train.partition import Components, check, trainable
from nlm_jax.train.state import TrainState, abstract_state, state_shardings
from nlm_jax.train.step import make_step
from nlm_jax.train.weights import init_missing


@dataclasses.dataclass(frozen=True)
class Program:
    """Everything about a stage that is fixed before its first step."""

    stage: Stage
    model: NatureLMConfig
    mesh: Mesh
    graphdef: nnx.GraphDef
    build: Callable[[], nnx.Module]
    """The model with random weights."""
    init_opt: Callable[..., Any]
    """trainable parameters -> step 0 and a fresh optimizer state."""
    abstract: TrainState
    """Shapes and dtypes of the state."""
    shardings: TrainState
    step: Callable[..., Any]
    """(state, batch) -> (state, metrics); the state is donated."""

    def targets(self) -> dict[str, jax.ShapeDtypeStruct]:
        """State path -> shape, dtype and sharding of every leaf."""
        shardings = named_leaves(self.shardings)
        leaves = named_leaves(self.abstract)
        return {p: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=shardings[p]) for p, x in leaves.items()}

    def params(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Parameter path -> shape, dtype and sharding of every leaf of the model."""
        parts = {p: x for p, x in self.targets().items() if p.startswith(("trainable/", "frozen/"))}
        return {p.partition("/")[2]: x for p, x in parts.items()}

    def start(self, params: Mapping[str, jax.Array], opt: Mapping[str, jax.Array] | None = None) -> TrainState:
        """The state in which the stage starts or resumes.

        Args:
          params: path -> weights; missing ones are random.
          opt: state path -> leaf of a saved step count and optimizer state; a fresh optimizer if None.
        """
        leaves = init_missing(self.build, self.params(), params)
        parts = [
            map_named(lambda path, _: leaves[path], part) for part in (self.abstract.trainable, self.abstract.frozen)
        ]
        if opt is None:
            step, moments = self.init_opt(parts[0])
        else:
            step = opt["step"]
            moments = map_named(lambda path, _: opt[f"opt/{path}"], self.abstract.opt)
        return TrainState(step, *parts, moments)


def make_program(config: TrainConfig, stage: Stage, model: NatureLMConfig, mesh: Mesh, rules: Rules) -> Program:
    """Traces the model of a stage without allocating it; the step is compiled when it is first called.

    Programs of equal settings share traced and compiled functions within a process: a run that is resumed, or the next
    of a sweep, compiles nothing again.

    Args:
      config: of the run.
      stage: one of its stages.
      model: config of the model, from `resolve_model`.
      mesh: of all devices.
      rules: logical axis -> mesh axes.

    Raises:
      UserError: the mesh does not divide rows or heads, or a component to be trained has no parameters.
    """
    check_rows(stage.data.rows // stage.accumulate, mesh)
    check_heads(model.llama.heads, mesh)
    platform = mesh.devices.flat[0].platform
    attention = choose_attention(model.attention, platform, stage.data.row_tokens, model.llama.head_dim)
    check_attention(attention, model.compute_dtype, platform)
    model = dataclasses.replace(model, attention=attention)
    index = config.stages.index(stage)
    settings = (stage.train, stage.optim, stage.steps, stage.accumulate)
    functions = _functions(model, config.seed, config.seed + index, config.model.base_dtype, *settings, mesh, rules)
    return Program(stage=stage, model=model, mesh=mesh, **functions)


@functools.lru_cache(maxsize=8)
def _functions(
    model: NatureLMConfig,
    init_seed: int,
    stage_seed: int,
    base_dtype: str,
    train: Components,
    optim: OptimConfig,
    steps: int,
    accumulate: int,
    mesh: Mesh,
    rules: Rules,
) -> dict[str, Any]:
    """The fields of a `Program` that do not depend on its data. Cached, so that jax finds its compiled programs."""

    def build():
        module = NatureLMModel(model, rngs=nnx.Rngs(params=init_seed))
        return int8_base(module) if base_dtype == "int8" else module

    tx = optimizer(optim, steps)
    graphdef, template = nnx.split(nnx.eval_shape(build))
    check(train, named_leaves(template))
    abstract = abstract_state(template, tx, trainable(train), base_dtype)
    shardings = state_shardings(abstract, mesh, rules)
    step = make_step(graphdef, tx, schedule(optim, steps), seed=stage_seed, accumulate=accumulate, rules=rules)
    return {
        "graphdef": graphdef,
        "build": build,
        "init_opt": jax.jit(
            lambda trained: (jnp.zeros((), jnp.int32), tx.init(trained)), out_shardings=(shardings.step, shardings.opt)
        ),
        "abstract": abstract,
        "shardings": shardings,
        "step": jax.jit(
            step,
            in_shardings=(shardings, rows_sharding(mesh)),
            out_shardings=(shardings, replicated(mesh)),
            donate_argnums=0,
        ),
    }
