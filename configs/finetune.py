"""Fine-tuning on your own recordings, prepared with a held-out part: from a released model, a training run, or scratch.

command   nlm prepare RECORDINGS --out=data/own --hold-out=0.2
          nlm train --config=configs/finetune.py:data/own,MODEL --workdir=runs/own
          nlm evaluate --benchmark=corpus --model=runs/own --data=data/own --out=runs/own/scores
          MODEL is an official directory or hub id, an export, or a training run; if it has no language model,
          --config.init.llm=LLAMA_DIR. Without it (":data/own") a tiny model is trained from scratch, on a laptop.
          bash launch/finetune.sh RECORDINGS does all three.
hardware  8B: one GPU of 48 GB or more, or a TPU VM; in int8 (--config.model.base_dtype) 8 GB less. Tiny: 2 cores
time      tiny: about five minutes for 100 recordings on 2 cores (measured); 8B: not yet measured
numbers   no reference: the scores of your recordings are in runs/own/scores
"""

import json
import math
import pathlib

from nlm_jax.convert.run_file import is_run
from nlm_jax.core.errors import UserError
from nlm_jax.core.remote import local
from nlm_jax.data.config import AugmentConfig, DataConfig
from nlm_jax.train.config import (
    CheckpointConfig,
    EvalConfig,
    Init,
    LogConfig,
    ModelSetup,
    Stage,
    TrainConfig,
    config_dict,
)
from nlm_jax.train.optim import OptimConfig
from nlm_jax.train.partition import Components

ROWS, CLIPS = 8, 2  # a batch of 16 clips; eight rows divide over 1, 2, 4 or 8 devices
VECTORS = 29  # per clip of ten seconds
EPOCHS = 10


def get_config(argument: str = "data/own"):
    directory, _, model = argument.partition(",")
    file = pathlib.Path(local(directory)) / "manifest.json"
    if not file.is_file():
        raise UserError(
            f"--config=configs/finetune.py:{argument}: {file} does not exist; write the directory with "
            "nlm prepare RECORDINGS --out DIRECTORY --hold-out 0.2"
        )
    manifest = json.loads(file.read_text(encoding="utf-8"))
    splits, longest = manifest["splits"], int(manifest["text"]["tokens_without_audio"]["max"])
    train, valid = ("train" if "train" in splits else ""), "valid" in splits
    steps = max(300, math.ceil(EPOCHS * (splits[train] if train else manifest["examples"]) / (ROWS * CLIPS)))
    data = DataConfig(
        train=(directory,),
        valid=(directory,) if valid else (),
        train_split=train,
        valid_split="valid" if valid else "",
        seconds=10.0,
        rows=ROWS,
        row_clips=CLIPS,
        row_tokens=_rounded(CLIPS * (longest + VECTORS)),
        row_answers=_rounded(min(CLIPS * longest, CLIPS * 160)),
        skip_long=True,
        augment=AugmentConfig(noise_prob=0.2, noise_snr=(5.0, 25.0)),
    )
    return config_dict(
        TrainConfig(
            model=_released() if model else _tiny(),
            init=Init() if not model else Init(run=model) if is_run(model) else Init(naturelm=model),
            stages=(
                Stage(
                    name="finetune",
                    steps=steps,
                    data=data,
                    optim=OptimConfig(
                        peak_lr=5e-5 if model else 2e-3,
                        min_lr=5e-6 if model else 1e-4,
                        beta2=0.999 if model else 0.98,
                        warmup_steps=max(1, steps // 20),
                        weight_decay=0.05,
                    ),
                    # An untrained language model has to be trained as well.
                    train=Components(beats=True, qformer=True, projection=True, lora=True, base=not model),
                ),
            ),
            checkpoint=CheckpointConfig(every=max(50, steps // 10)),
            eval=EvalConfig(every=max(50, steps // 5), examples=256, answers=2, max_new_tokens=40),
            log=LogConfig(every=10),
        )
    )


def _released() -> ModelSetup:
    return ModelSetup("llama-3.1-8b", compute_dtype="bfloat16", base_dtype="bfloat16", remat="full")


def _tiny() -> ModelSetup:
    sizes = {"beats": {"layers": 2, "layerdrop": 0.0}, "qformer": {"dropout": 0.0}, "llama": {"lora": {"dropout": 0.0}}}
    return ModelSetup("tiny", compute_dtype="float32", base_dtype="float32", overrides=sizes)


def _rounded(n: int) -> int:
    return max(64, -(-n // 64) * 64)
