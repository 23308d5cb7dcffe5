"""The official training YAML (its train_stage1.yml and train_stage2.yml) as a config of ours, for who comes from there.

Its settings of the model, the optimiser, the batch and the augmentation are adopted; what belongs to its machines
or is unpublished is left out and named. One example of the official batch is one example here, but rows hold several.
"""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections
import yaml

from nlm_jax.convert.configs import beats_config, beats_json
from nlm_jax.convert.formats import open_checkpoint
from nlm_jax.core.dims import CLIP_SECONDS
from nlm_jax.core.errors import UserError
from nlm_jax.core.remote import is_remote, local
from nlm_jax.data.config import AugmentConfig, DataConfig
from nlm_jax.models.beats.config import BeatsConfig
from nlm_jax.train.config import EvalConfig, Init, LogConfig, ModelSetup, Stage, TrainConfig, config_dict
from nlm_jax.train.optim import OptimConfig
from nlm_jax.train.partition import Components

SUFFIXES = (".yml", ".yaml")
ROW_CLIPS = 4
"""Examples in a row; small, so that batches as small as the official 32 still divide among eight chips."""
ROW_TOKENS, ROW_ANSWERS = 256, 64
"""Room of each example in a row."""
NONE = 1e30
"""A limit of gradients that is none."""
FIXED = {
    "model.use_audio_Qformer": True,
    "model.window_level_Qformer": True,
    "model.max_pooling": False,
    "model.audio_llama_proj_model": "",
    "run.evaluate": False,
    "run.epoch_based": False,
}
"""Settings that change what is computed and exist here with one value only."""
UNUSED = {
    "": "extended",
    "model": "device downsample_factor multi_prompt prompt_path test_prompt_path",
    "datasets": "test_ann_path",
    "run": "amp_dtype batch_size_eval custom_metrics decode_ratio device dist_backend dist_url gpu output_dir rank "
    "use_distributed wandb_enabled",
    "run.optims": "device resume_epoch resume_optimizer",
    "run.augmentations": "noise_dirs",
    "generate": "do_sample length_penalty min_length num_beams repetition_penalty temperature",
}
"""Known names without a counterpart: machines, unpublished prompt files, flags of `nlm infer`, what is always so."""


@dataclasses.dataclass(frozen=True)
class Official:
    """A translated file."""

    config: ml_collections.ConfigDict
    annotations: dict[str, str]
    """Directory (a `data.train` or `data.valid` of `config`) -> the JSON lines it is to be prepared from."""
    tokenizer: str
    sides: dict[pathlib.Path, str]
    """Files that `config` names and that are to be written: path -> text."""
    warnings: tuple[str, ...]


def is_official(path: str | os.PathLike) -> bool:
    """Whether `--config` names a YAML file."""
    return str(path).lower().endswith(SUFFIXES)


class Section:
    """One mapping of the file; it records which of its names were not read."""

    def __init__(self, file: str, where: str, values: Any):
        if not isinstance(values, Mapping):
            raise UserError(f"{file}: {where or 'the file'} must hold names and values, as the official files do")
        self.file, self.where, self._values = file, where, dict(values)
        self.left = set(self._values) - set(UNUSED.get(where, "").split())

    def get(self, name: str, default: Any, kind: type | tuple[type, ...]) -> Any:
        """A value of a type; `default` if the file has none or null."""
        self.left.discard(name)
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, str) and kind is float:  # YAML reads 9e-5 as text
            try:
                return float(value)
            except ValueError:
                pass
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            expected = kind.__name__ if isinstance(kind, type) else " or ".join(k.__name__ for k in kind)
            raise UserError(f"{self.file}: {self._full(name)} must be {expected}, is {value!r}")
        return value

    def section(self, name: str, needed: bool = True) -> "Section":
        """A mapping inside this one."""
        self.left.discard(name)
        if needed and name not in self._values:
            raise UserError(f"{self.file}: {self._full(name)} is missing; an official training file has it")
        return Section(self.file, self._full(name), self._values.get(name) or {})

    def check_fixed(self) -> None:
        """Raises UserError if a setting has a value that cannot be had here."""
        for full, only in FIXED.items():
            where, _, name = full.rpartition(".")
            if where == self.where:
                value = self.get(name, only, object)
                if value != only and not (value in ("", None) and only == ""):
                    raise UserError(f"{self.file}: {full}={value!r} is not supported; here it is always {only!r}")

    def _full(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where else name


def translate(path: str | os.PathLike, workdir: str | os.PathLike) -> Official:
    """Our config for an official file. Data is prepared to `WORKDIR.data/`, next to the run.

    Raises:
      UserError: no such file, not YAML, a missing section, a value of the wrong type or one that cannot be had here.
    """
    name = str(path)
    root = Section(name, "", _read(name))
    model, run, datasets = root.section("model"), root.section("run"), root.section("datasets")
    optims, augment = run.section("optims"), run.section("augmentations", needed=False)
    generate = root.section("generate", needed=False)
    sections = (root, model, run, datasets, optims, augment, generate)
    for section in sections:
        section.check_fixed()
    data_dir = pathlib.Path(f"{workdir}.data")
    beats = model.get("beats_cfg", {}, Mapping)
    init, sides = _init(model, data_dir, beats)
    annotations = {
        str(data_dir / split): path
        for split in ("train", "valid")
        if (path := datasets.get(f"{split}_ann_path", "", str))
    }
    stage = _stage(model, run, datasets, optims, augment, annotations)
    amp, seed = run.get("amp", True, bool), run.get("seed", 13, int)
    config = TrainConfig(
        seed=seed,
        model=_model(model, amp, {} if init.beats else beats),
        init=init,
        stages=(stage,),
        eval=EvalConfig(every=stage.optim.steps_per_epoch, max_new_tokens=generate.get("max_new_tokens", 60, int)),
        log=LogConfig(every=run.get("log_freq", 20, int)),
    )
    warnings = tuple(_warnings(name, sections, augment))
    return Official(config_dict(config), annotations, init.llama or init.llm, sides, warnings)


def _read(name: str) -> Any:
    file = local(name)
    if not file.is_file():
        raise UserError(f"--config={name}: no such file")
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--config={name}: not YAML: {' '.join(str(error).split())}") from error


def _init(model: Section, data_dir: pathlib.Path, sizes: Mapping) -> tuple[Init, dict[pathlib.Path, str]]:
    """Where the weights come from. A bare .pth needs an official config.json: the file's own `model` section is one.

    The encoder's sizes are those of the file (`sizes`, its beats_cfg), else those of the encoder it names.
    """
    llama, beats = model.get("llama_path", "", str), model.get("beats_path", "", str)
    if not llama:
        raise UserError(f"{model.file}: model.llama_path is missing; name the language model's directory or hub id")
    ckpt = model.get("ckpt", "", str)
    if not ckpt:
        return Init(llama=llama, beats=beats), {}
    if not ckpt.endswith((".pth", ".pt")):
        return Init(naturelm=ckpt, llm=llama, beats=beats), {}
    file = data_dir / "config.json"
    if not sizes and beats and (is_remote(beats) or pathlib.Path(beats).exists()):
        encoder = open_checkpoint(beats)
        sizes = beats_json(encoder.config.beats, encoder.official.get("beats_cfg"))
    text = json.dumps({**model._values, "beats_cfg": dict(sizes) or beats_json(BeatsConfig())}, indent=1)
    return Init(naturelm=ckpt, config=str(file), llm=llama, beats=beats), {file: text}


def _model(model: Section, amp: bool, beats: Mapping) -> ModelSetup:
    attention = model.get("flash_attn", "flash_attention_2", str)
    lora: dict[str, Any] | None = {
        "rank": model.get("lora_rank", 8, int),
        "alpha": model.get("lora_alpha", 32.0, float),
        "dropout": model.get("lora_dropout", 0.1, float),
    }
    overrides = {
        "qformer": {
            "queries": model.get("num_audio_query_token", 1, int),
            "window_seconds": model.get("second_per_window", 0.333333, float),
            "stride_seconds": model.get("second_stride", 0.333333, float),
        },
        "llama": {"lora": lora if model.get("lora", True, bool) else None},
    }
    if beats:
        overrides["beats"] = dataclasses.asdict(beats_config(beats, f"{model.file}: model.beats_cfg"))
    for theirs, ours in (("prompt_template", "prompt_template"), ("end_sym", "end_sym")):
        if text := model.get(theirs, "", str):
            overrides[ours] = text
    return ModelSetup(
        preset="llama-3.1-8b",
        compute_dtype="bfloat16" if amp else "float32",
        base_dtype="bfloat16" if amp else "float32",
        remat="mlp",
        attention="xla" if attention == "eager" else "auto",
        max_txt_len=model.get("max_txt_len", 128, int),
        overrides=overrides,
    )


def _stage(model, run, datasets, optims, augment, annotations: dict[str, str]) -> Stage:
    accumulate, per_epoch = run.get("accum_grad_iters", 1, int), run.get("iters_per_epoch", 10_000, int)
    batch = run.get("batch_size_train", 8, int) * run.get("world_size", 1, int)
    epochs = optims.get("max_epoch", 1, int)
    for name, value in (("accum_grad_iters", accumulate), ("iters_per_epoch", per_epoch), ("max_epoch", epochs),
                        ("batch_size_train", batch)):  # fmt: skip
        if value < 1:
            raise UserError(f"{run.file}: {name} must be at least 1")
    row_clips = math.gcd(batch, ROW_CLIPS)
    seconds, seed = datasets.get("audio_max_length_seconds", CLIP_SECONDS, float), run.get("seed", 13, int)
    data = DataConfig(
        train=tuple(d for d in annotations if d.endswith("train")),
        valid=tuple(d for d in annotations if d.endswith("valid")),
        seconds=seconds,
        rows=batch * accumulate // row_clips,
        row_clips=row_clips,
        row_tokens=row_clips * ROW_TOKENS,
        row_answers=row_clips * ROW_ANSWERS,
        seed=seed,
        workers=min(run.get("num_workers", 0, int), os.cpu_count() or 1),
        augment=_augment(augment),
    )
    # The official schedule counts iterations, of which `accum_grad_iters` make one step.
    return Stage(
        name="official",
        steps=max(1, epochs * per_epoch // accumulate),
        accumulate=accumulate,
        data=data,
        optim=OptimConfig(
            peak_lr=optims.get("init_lr", 9e-5, float),
            min_lr=optims.get("min_lr", 1e-5, float),
            warmup_steps=optims.get("warmup_steps", 0, int) // accumulate,
            warmup_start_lr=optims.get("warmup_start_lr", -1.0, float),
            steps_per_epoch=max(1, per_epoch // accumulate),
            beta2=optims.get("beta2", 0.999, float),
            weight_decay=optims.get("weight_decay", 0.05, float),
            max_grad_norm=optims.get("max_grad_norm", NONE, float),
            max_grad_value=optims.get("max_grad_value", NONE, float),
        ),
        train=Components(
            beats=not model.get("freeze_beats", True, bool),
            qformer=not model.get("freeze_audio_QFormer", False, bool),
            projection=not model.get("freeze_audio_llama_proj", False, bool),
            lora=model.get("lora", True, bool),
            base=not model.get("freeze_llama", True, bool),
        ),
    )


def _augment(augment: Section) -> AugmentConfig:
    """The official names; `mask_audio_prob` is noise alone with the answer "None". Nothing if it is switched off."""
    config = AugmentConfig(
        noise_prob=augment.get("noise_prob", 0.0, float),
        noise_snr=(augment.get("low_snr", -5.0, float), augment.get("high_snr", 20.0, float)),
        mixup_prob=augment.get("mixup_prob", 0.0, float),
        mixup_partners=augment.get("mixup_count", 3, int),
        none_prob=augment.get("mask_audio_prob", 0.0, float),
        time_scale_prob=augment.get("time_scale_prob", 0.0, float),
        time_scale=augment.get("time_scale", 1.2, float),
    )
    return config if augment.get("use_augmentation", False, bool) else AugmentConfig()


def _warnings(name: str, sections, augment: Section):
    unknown = sorted(section._full(left) for section in sections for left in section.left)
    if unknown:
        yield f"{name}: left out, as the official code has no such fields either: {', '.join(unknown)}"
    if augment._values.get("noise_dirs") and augment._values.get("use_augmentation"):
        yield (
            f"{name}: noise is made, not read; for the recordings of run.augmentations.noise_dirs prepare them and set "
            "stages.0.data.augment.noise_dirs"
        )


def write_sides(official: Official) -> None:
    """Writes the files that the config names.

    Raises:
      UserError: the run's directory is a bucket's, where they cannot lie next to it.
    """
    for file, text in official.sides.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def unprepared(official: Official, config: TrainConfig) -> dict[str, str]:
    """Data that `config`, after overrides, needs prepared: directory -> annotations.

    Raises:
      UserError: annotations that are not there, or a work directory in a bucket.
    """
    data = config.stages[0].data
    missing = {d: official.annotations[d] for d in (*data.train, *data.valid) if d in official.annotations}
    for directory, annotations in missing.items():
        if is_remote(directory):
            raise UserError(
                f"--workdir: nothing can be prepared next to it in a bucket; run nlm prepare {annotations} --out DIR, "
                "and give --config.stages.0.data.train=\"('DIR',)\" (data.valid likewise)"
            )
        if not is_remote(annotations) and not pathlib.Path(annotations).is_file():
            raise UserError(
                f"{annotations}: no such file; mend datasets.*_ann_path of the YAML file, or give prepared data with "
                "--config.stages.0.data.train=\"('DIR',)\" (data.valid likewise)"
            )
    return missing
