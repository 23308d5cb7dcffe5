"""The real training step, compiled for devices that are not there. No weight is allocated."""

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp

from nlm_jax.core.batch import Batch
from nlm_jax.core.errors import UserError
from nlm_jax.core.tree import map_named
from nlm_jax.mesh.build import make_mesh
from nlm_jax.mesh.place import rows_sharding
from nlm_jax.mesh.rules import rules
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.plan.census import Census, census
from nlm_jax.train.config import TrainConfig
from nlm_jax.train.program import Program, make_program
from nlm_jax.train.weights import settle


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler says about one step on one device."""

    program: Program
    arguments: int
    """Bytes of the state and the batch."""
    temporaries: int
    """Bytes that live during the step."""
    peak: int
    """Bytes at the worst moment, by the compiler's own account."""
    census: Census
    seconds: float
    """It took to compile."""


def model_config(config: TrainConfig) -> NatureLMConfig:
    """The model's sizes from the preset and the overrides: no checkpoint is opened."""
    from nlm_jax.models.presets import preset

    return settle(config, [], preset(config.model.preset).llama.vocab)


def program(config: TrainConfig, stage: int, devices, sizes: tuple[int, int, int]) -> Program:
    """The step of stage number `stage` on a mesh of `sizes` (data, fsdp, tensor) over `devices`.

    Raises:
      UserError: sizes that do not make up the devices, rows or heads that do not divide.
    """
    mesh = make_mesh(*sizes, devices=devices)
    return make_program(config, config.stages[stage], model_config(config), mesh, rules(config.mesh.rules))


def abstract_batch(made: Program) -> Batch:
    """Shapes of a global batch, spread over the mesh by rows."""
    data, place = made.stage.data, rows_sharding(made.mesh)
    b, a, s, m = data.rows, data.row_clips, data.row_tokens, data.row_answers

    def leaf(shape: tuple[int, ...], dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=place)

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


def compile_step(made: Program) -> Compiled:
    """Compiles the step of a program for its mesh.

    Raises:
      UserError: the compiler found no way to fit it into memory (`OutOfMemory`), or refused it otherwise.
    """
    places = made.targets()
    state = map_named(lambda path, _: places[path], made.abstract)
    started = time.perf_counter()
    with jax.set_mesh(made.mesh):
        lowered = made.step.lower(state, abstract_batch(made))
        try:
            compiled = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            text = str(error)
            if "RESOURCE_EXHAUSTED" in text:
                raise OutOfMemory(_needed(text)) from None
            raise UserError(f"the compiler refuses this step: {text.splitlines()[0]}") from error
    seconds = time.perf_counter() - started
    memory = compiled.memory_analysis()
    return Compiled(
        program=made,
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        peak=memory.peak_memory_in_bytes,
        census=census(compiled.as_text()),
        seconds=seconds,
    )


class OutOfMemory(Exception):
    """The step does not fit; the message is what the compiler says it would need."""


def _needed(text: str) -> str:
    """The part of the compiler's complaint that says how much it wanted."""
    lines = (line.strip() for line in text.splitlines())
    return next((line for line in lines if "Used" in line or "exceeds" in line or "exceeded" in line), text[:200])
