"""A tiny model through both stages, to check that everything runs. No downloads.

command   nlm train --config=configs/smoke.py:PREPARED --workdir=runs/smoke
          PREPARED is a directory written by nlm prepare (any corpus will do)
hardware  2 CPU cores
time      about two minutes, most of it compilation (measured on 2 cores)
numbers   not meaningful: 24 steps, random weights; the loss falls from ln(vocabulary) = 6.9 to about 5
"""

import ml_collections


def get_config(data: str = "runs/smoke_data") -> ml_collections.ConfigDict:
    stage = {
        "name": "stage1",
        "steps": 12,
        "data": {
            "train": (data,),
            "valid": (data,),
            "seconds": 2.0,
            "rows": 8,
            "row_tokens": 256,
            "row_clips": 4,
            "row_answers": 64,
            "random_crop": True,
            "seed": 0,
        },
        "optim": {"peak_lr": 3e-3, "min_lr": 1e-4, "warmup_steps": 2, "steps_per_epoch": 10_000},
        "train": {"beats": True, "qformer": True, "projection": True, "lora": True, "base": True},
    }
    return ml_collections.ConfigDict(
        {
            "seed": 0,
            "tokenizer": "embedded",
            "model": {"preset": "tiny", "compute_dtype": "float32", "base_dtype": "float32", "remat": "none"},
            "stages": [
                stage,
                stage | {"name": "stage2", "train": stage["train"] | {"base": False}},
            ],
            "mesh": {"data": 1, "fsdp": -1, "tensor": 1},
            "checkpoint": {"every": 6},
            "eval": {"every": 12, "examples": 16, "answers": 1, "max_new_tokens": 8},
            "log": {"every": 4, "tensorboard": True},
        }
    )
