"""The config of a training run: every field of a `configs/*.py` file, with its default.

A field with the metadata `FREE_ON_RESUME` may change when a run resumes; nothing else has to know of it.
"""

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any, Literal

import ml_collections

from nlm_jax.core.config import FREE_ON_RESUME, build
from nlm_jax.core.errors import UserError
from nlm_jax.data.config import DataConfig
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.train.optim import OptimConfig
from nlm_jax.train.partition import Components


@dataclasses.dataclass(frozen=True)
class ModelSetup:
    """Sizes and numerics of the model. Imported weights bring their own sizes; the preset fills in the rest.

    A field that `NatureLMConfig` has too is copied into the model's config by its name.
    """

    preset: str = "tiny"
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    base_dtype: Literal["float32", "bfloat16", "int8"] = "bfloat16"
    """Storage of the frozen language model; "int8" applies to the kernels of its layers (nn/int8.py). Trained
    parameters are float32."""
    remat: str = dataclasses.field(default="none", metadata=FREE_ON_RESUME)
    """Which activations are saved for the backward pass: none, full, dots, attention, mlp (see nn/stack.py)."""
    attention: Literal["auto", "xla", "cudnn", "splash"] = dataclasses.field(default="auto", metadata=FREE_ON_RESUME)
    """Attention kernel of the language model: plain, NVIDIA's fused or the TPU's; auto: splash on TPUs, else plain."""
    max_txt_len: int = 160
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Any other field of NatureLMConfig, nested: {"llama": {"lora": {"rank": 8}}}."""


@dataclasses.dataclass(frozen=True)
class Init:
    """Sources of the initial weights. Each leaf is taken from the first source that has it; the rest is random."""

    run: str = ""
    """Another run of `nlm train` (its --workdir), such as stage 1's."""
    run_which: Literal["best", "last"] = "last"
    naturelm: str = ""
    """A whole model: official directory or .pth, or a directory of format nlm."""
    config: str = ""
    """The official config.json, if `naturelm` is a bare .pth."""
    llm: str = ""
    """Language model of `naturelm`, if that does not include it."""
    llama: str = ""
    """Hugging Face Llama directory or hub id."""
    beats: str = ""
    """Microsoft's BEATs .pt, or an encoder exported by nlm."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of the curriculum, with its own data, optimizer and schedule; it continues from the stage before."""

    name: str = "stage1"
    steps: int = 1000
    accumulate: int = dataclasses.field(default=1, metadata=FREE_ON_RESUME)
    """Micro-batches of each batch, computed one after another to save memory."""
    start: Literal["last", "best"] = "last"
    """Which weights of the stage before this one starts from."""
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    train: Components = dataclasses.field(default_factory=Components)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh's axes; -1 takes the remaining devices."""

    data: int = 1
    fsdp: int = -1
    tensor: int = 1
    rules: str = "default"
    distributed: bool = False
    """Join the other processes first: those of a TPU pod, GKE job or Slurm job, or those that JAX_COORDINATOR_ADDRESS,
    JAX_NUM_PROCESSES and JAX_PROCESS_ID name (mesh/join.py)."""


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are saved and how many are kept."""

    every: int = 1000
    """Steps between checkpoints; the last step of a stage is always saved."""
    keep: int = 2
    """Number of newest checkpoints kept, and of the best by validation loss. With 1 there is no fallback if the newest
    is damaged. On disk each of the newest takes up to 12 bytes per trained weight (with the optimizer), each of the
    best up to 4."""


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Validation during training."""

    every: int = 1000
    """Steps between validations; 0 = never."""
    examples: int = 0
    """Validation examples, spread evenly over the set; 0 = all of it."""
    answers: int = 2
    """Generated answers per task at each validation; 0 = none."""
    max_new_tokens: int = 40


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """Logging during training."""

    every: int = 20
    """Steps between records of the metrics."""
    tensorboard: bool = True


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A whole run."""

    stages: tuple[Stage, ...] = (Stage(),)
    seed: int = 0
    compile_cache: str = dataclasses.field(default="auto", metadata=FREE_ON_RESUME)
    """Directory of compiled programs, "" for none; auto: the user's cache, on accelerators (core/compile_cache.py)."""
    tokenizer: str = ""
    """Directory, hub id or "embedded"; empty = the one that came with the weights, else "embedded"."""
    model: ModelSetup = dataclasses.field(default_factory=ModelSetup)
    init: Init = dataclasses.field(default_factory=Init)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig, metadata=FREE_ON_RESUME)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig, metadata=FREE_ON_RESUME)
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig, metadata=FREE_ON_RESUME)
    log: LogConfig = dataclasses.field(default_factory=LogConfig, metadata=FREE_ON_RESUME)


def train_config(values: Any) -> TrainConfig:
    """A checked `TrainConfig` from what `get_config()` returned.

    Args:
      values: nested mapping of the fields; missing fields have their defaults.

    Raises:
      UserError: an unknown or badly typed field, no stage, two stages of one name, or a count below its minimum.
    """
    return check(build(TrainConfig, values))


def check(config: TrainConfig) -> TrainConfig:
    """`config` itself, if it is valid.

    Raises:
      UserError: no stage, two stages of one name, or a count below its minimum.
    """
    names = [stage.name for stage in config.stages]
    if not names or len(set(names)) != len(names):
        raise UserError(f"config.stages: need one or more stages with different names, got {names}")
    for i, stage in enumerate(config.stages):
        if not stage.name.isidentifier():
            raise UserError(f"config.stages[{i}].name: {stage.name!r} names a folder; use letters, digits and _")
        for field, value in (("steps", stage.steps), ("accumulate", stage.accumulate), ("data.rows", stage.data.rows)):
            if value < 1:
                raise UserError(f"config.stages[{i}].{field}: must be at least 1, got {value}")
        if stage.train.base and config.model.base_dtype == "int8":
            raise UserError(
                f"config.stages[{i}].train.base: the base is stored in int8, which cannot be trained; "
                "set model.base_dtype to bfloat16"
            )
        if stage.data.rows % stage.accumulate:
            raise UserError(
                f"config.stages[{i}].accumulate: {stage.accumulate} does not divide data.rows={stage.data.rows}"
            )
    for field, value in (("checkpoint.every", config.checkpoint.every), ("checkpoint.keep", config.checkpoint.keep),
                         ("log.every", config.log.every)):  # fmt: skip
        if value < 1:
            raise UserError(f"config.{field}: must be at least 1, got {value}")
    for field, least in (("every", 0), ("examples", 0), ("answers", 0), ("max_new_tokens", 1)):
        if getattr(config.eval, field) < least:
            raise UserError(f"config.eval.{field}: must be at least {least}, got {getattr(config.eval, field)}")
    return config


def model_fields() -> tuple[str, ...]:
    """Names of the fields of `ModelSetup` that set the field of `NatureLMConfig` with the same name."""
    names = {field.name for field in dataclasses.fields(NatureLMConfig)}
    return tuple(field.name for field in dataclasses.fields(ModelSetup) if field.name in names)


def free_model_fields() -> tuple[str, ...]:
    """Names of the fields of `NatureLMConfig` that may differ from those the run was started with."""
    return tuple(name for name in free_fields(ModelSetup) if name in model_fields())


def free_fields(cls: type, prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields of a config that may change on resume; `*` is the number of an element of a tuple.

    Args:
      cls: a dataclass, in whose fields other dataclasses may be nested.
      prefix: of each name.
    """
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        name, hint = prefix + field.name, hints[field.name]
        if field.metadata.get("resume") == "free":
            yield name
        elif dataclasses.is_dataclass(hint):
            yield from free_fields(hint, f"{name}.")
        elif typing.get_origin(hint) is tuple and dataclasses.is_dataclass(typing.get_args(hint)[0]):
            yield from free_fields(typing.get_args(hint)[0], f"{name}.*.")


def first_difference(old: dict[str, Any], new: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """The first field in which two configs differ, those that may change on resume aside.

    Args:
      old: a config as nested dicts, such as that of a run.
      new: another one.

    Returns:
      (dotted name, old value, new value); None if there is no difference.
    """
    old, new = flatten(old), flatten(new)
    free = set(free_fields(TrainConfig))
    for name in sorted({*old, *new}):
        parts = ["*" if part.isdigit() else part for part in name.split(".")]
        is_free = any(".".join(parts[:n]) in free for n in range(1, len(parts) + 1))
        if not is_free and old.get(name) != new.get(name):
            return name, old.get(name), new.get(name)
    return None


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists as one mapping with dotted names; tuples and lists of plain values are not split."""
    if isinstance(values, dict) and values:
        items = values.items()
    elif isinstance(values, list | tuple) and any(isinstance(v, dict) for v in values):
        items = enumerate(values)
    else:
        return {prefix: list(values) if isinstance(values, tuple) else values}
    flat: dict[str, Any] = {}
    for key, value in items:
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def config_dict(config: TrainConfig) -> ml_collections.ConfigDict:
    """`config` as `get_config()` of a config file returns it, with every field, so that each can be overridden."""
    values = dataclasses.asdict(config)
    values["stages"] = [ml_collections.ConfigDict(stage) for stage in values["stages"]]
    return ml_collections.ConfigDict(values)
