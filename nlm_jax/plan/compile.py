"""Compilation of the real training step for devices that are not attached. No weight is allocated."""

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp

from nlm_jax.core.batch import Batch
from nlm_jax.core.errors import UserError
from nlm_jax.core.tree import map_named
from nlm_jax.mesh.build import make_mesh
from nlm_jax.mesh.rules import rules
from nlm_jax.mesh.sharding import rows_sharding
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.plan.census import Census, census
from nlm_jax.train.config import TrainConfig
from nlm_jax.train.program import Program, make_program
from nlm_jax.train.weights import resolve_model


@dataclasses.dataclass(frozen=True)
class Compiled:
    """The compiler's figures for one step on one device."""

    program: Program
    arguments: int
    """Bytes of the state and the batch."""
    temporaries: int
    """Bytes of temporaries during the step."""
    peak: int
    """Peak bytes, as the compiler computes them."""
    census: Census
    seconds: float
    """Compilation time."""


def model_config(config: TrainConfig) -> NatureLMConfig:
    """The model config from the preset and the overrides, without opening a checkpoint."""
    from nlm_jax.models.presets import preset

    return resolve_model(config, [], preset(config.model.preset).llama.vocab)


def program(config: TrainConfig, stage: int, devices, sizes: tuple[int, int, int]) -> Program:
    """Builds the training program of a stage, without compiling it.

    Args:
      stage: index of the stage.
      devices: devices of the mesh.
      sizes: mesh sizes (data, fsdp, tensor).

    Raises:
      UserError: the product of the sizes is not the number of devices, or rows or heads do not divide.
    """
    mesh = make_mesh(*sizes, devices=devices)
    return make_program(config, config.stages[stage], model_config(config), mesh, rules(config.mesh.rules))


def abstract_batch(program: Program) -> Batch:
    """Shapes of a global batch, sharded over the mesh by rows."""
    data, sharding = program.stage.data, rows_sharding(program.mesh)
    b, a, s, m = data.rows, data.row_clips, data.row_tokens, data.row_answers

    def leaf(shape: tuple[int, ...], dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    return Batch(
        audio=leaf((b, a, data.samples), jnp.float32),
        audio_length=leaf((b, a)),
        tokens=leaf((b, s)),
        positions=leaf((b, s)),
        segments=leaf((b, s)),
        audio_slot=leaf((b, s)),
        answer_index=leaf((b, m)),
        targets=leaf((b, m)),
        weights=leaf((b, m), jnp.float32),
        answer_segment=leaf((b, m)),
    )


def compile_step(program: Program) -> Compiled:
    """Compiles the step of a program for its mesh.

    Raises:
      OutOfMemory: the step does not fit into the memory of a device.
      UserError: the compiler rejects the step for another reason.
    """
    targets = program.targets()
    state = map_named(lambda path, _: targets[path], program.abstract)
    started = time.perf_counter()
    with jax.set_mesh(program.mesh):
        lowered = program.step.lower(state, abstract_batch(program))
        try:
            compiled = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            text = str(error)
            if "RESOURCE_EXHAUSTED" in text:
                raise OutOfMemory(_memory_message(text)) from None
            raise UserError(f"the compiler rejects this step: {text.splitlines()[0]}") from error
    seconds = time.perf_counter() - started
    memory = compiled.memory_analysis()
    return Compiled(
        program=program,
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        peak=memory.peak_memory_in_bytes,
        census=census(compiled.as_text()),
        seconds=seconds,
    )


class OutOfMemory(Exception):
    """The step does not fit; the message is the compiler's statement of the memory it needs."""


def _memory_message(text: str) -> str:
    """The line of the compiler's error that states the memory it needs."""
    lines = (line.strip() for line in text.splitlines())
    return next((line for line in lines if "Used" in line or "exceeds" in line or "exceeded" in line), text[:200])
