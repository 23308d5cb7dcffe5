"""What a training run is: every field of a `configs/*.py` file, with its default."""

import dataclasses
from typing import Any, Literal

import ml_collections

from nlm_jax.core.config import build
from nlm_jax.core.errors import UserError
from nlm_jax.data.config import DataConfig
from nlm_jax.train.optim import OptimConfig
from nlm_jax.train.partition import Components


@dataclasses.dataclass(frozen=True)
class ModelSetup:
    """Sizes and numerics. Imported weights bring their own sizes; the preset fills in what they lack."""

    preset: str = "tiny"
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    base_dtype: Literal["float32", "bfloat16", "int8"] = "bfloat16"
    """Storage of the frozen language model; "int8": of its layers' kernels (nn/int8.py). What trains is float32."""
    remat: str = "none"
    """What the backward pass finds saved: none, full, dots, attention, mlp (see nn/stack.py)."""
    attention: Literal["auto", "xla", "cudnn", "splash"] = "auto"
    """Of the language model: plain, NVIDIA's fused kernel or the TPU's; auto: the TPU's there, else plain."""
    max_txt_len: int = 160
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Any other field of NatureLMConfig, nested: {"llama": {"lora": {"rank": 8}}}."""


@dataclasses.dataclass(frozen=True)
class Init:
    """Where weights come from. A leaf is taken from the first of these that has it; the rest is random."""

    run: str = ""
    """Another run of ours (its --workdir), such as stage 1's."""
    run_which: Literal["best", "last"] = "last"
    naturelm: str = ""
    """A whole model: official directory or .pth, or a directory of format nlm."""
    config: str = ""
    """The official config.json of a `naturelm` that is a bare .pth."""
    llm: str = ""
    """Language model under `naturelm` where that does not carry it."""
    llama: str = ""
    """Hugging Face Llama directory or hub id."""
    beats: str = ""
    """Microsoft's BEATs .pt, or an encoder exported by us."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of the curriculum: its own data, optimiser and schedule; the weights go on from the stage before."""

    name: str = "stage1"
    steps: int = 1000
    accumulate: int = 1
    """Parts in which a batch is computed, one after another, to save memory."""
    start: Literal["last", "best"] = "last"
    """Which weights of the stage before this one starts from."""
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    train: Components = dataclasses.field(default_factory=Components)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh's axes; -1 takes the devices that are left."""

    data: int = 1
    fsdp: int = -1
    tensor: int = 1
    rules: str = "default"
    distributed: bool = False
    """Join the other processes first: those of a TPU pod, GKE job or Slurm job, or those that JAX_COORDINATOR_ADDRESS,
    JAX_NUM_PROCESSES and JAX_PROCESS_ID name (mesh/join.py)."""


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    every: int = 1000
    """Steps between checkpoints; the last step of a stage is always saved."""
    keep: int = 2
    """Newest checkpoints retained, and as many of the best by validation loss. With 1 there is none to go back to if
    the newest is damaged. On disk each of the newest takes up to 12 bytes per trained weight (with the optimiser), each
    of the best up to 4."""


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    every: int = 1000
    """Steps between validations; 0 = never."""
    examples: int = 0
    """Validation examples, spread evenly over the set; 0 = all of it."""
    answers: int = 2
    """Generated answers per task at each validation; 0 = none."""
    max_new_tokens: int = 40


@dataclasses.dataclass(frozen=True)
class LogConfig:
    every: int = 20
    tensorboard: bool = True


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A whole run."""

    stages: tuple[Stage, ...] = (Stage(),)
    seed: int = 0
    compile_cache: str = "auto"
    """Directory of compiled programs, "" for none; auto: the user's cache, on accelerators (core/compile_cache.py)."""
    tokenizer: str = ""
    """Directory, hub id or "embedded"; empty = the one that came with the weights, else "embedded"."""
    model: ModelSetup = dataclasses.field(default_factory=ModelSetup)
    init: Init = dataclasses.field(default_factory=Init)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)
    log: LogConfig = dataclasses.field(default_factory=LogConfig)


def train_config(values: Any) -> TrainConfig:
    """A checked `TrainConfig` from what `get_config()` returned.

    Raises:
      UserError: an unknown or badly typed field, no stage, two stages of one name, or a count below its minimum.
    """
    return check(build(TrainConfig, values))


def check(config: TrainConfig) -> TrainConfig:
    """`config` itself, if a run can be made of it.

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
                f"config.stages[{i}].train.base: the base is held in int8, which cannot train; "
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


FREE = ("mesh", "checkpoint", "eval", "log", "compile_cache", "model.remat", "model.attention")
FREE_STAGE = ("accumulate", "data.workers", "data.threads", "data.prefetch", "data.cache_gb")
"""What may change when a run goes on: it does not touch the stream of batches or what is computed from them."""


def changed(old: dict[str, Any], new: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """The first field (name, old value, new value) in which two configs differ and a run may not."""
    old, new = flat(old), flat(new)
    for name in sorted({*old, *new}):
        parts = name.split(".")
        free = (".".join(parts[2:]) in FREE_STAGE) if parts[0] == "stages" else (parts[0] in FREE or name in FREE)
        if not free and old.get(name) != new.get(name):
            return name, old.get(name), new.get(name)
    return None


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists as one mapping with dotted names; tuples and lists of plain values stay whole."""
    if isinstance(values, dict) and values:
        items = values.items()
    elif isinstance(values, list | tuple) and any(isinstance(v, dict) for v in values):
        items = enumerate(values)
    else:
        return {prefix: list(values) if isinstance(values, tuple) else values}
    found: dict[str, Any] = {}
    for key, value in items:
        found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def config_dict(config: TrainConfig) -> ml_collections.ConfigDict:
    """What a config file's `get_config()` returns: every field is there, so that every field can be overridden."""
    values = dataclasses.asdict(config)
    values["stages"] = [ml_collections.ConfigDict(stage) for stage in values["stages"]]
    return ml_collections.ConfigDict(values)
