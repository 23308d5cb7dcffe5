"""The demo's path on real recordings: a small mixed corpus of animals, environment, speech and music, on a CPU.

command   nlm demo --corpus=../shared/corpus --out=runs/real_small
hardware  2 CPU cores, 8 fake devices (any number of devices will do)
time      24 minutes in all, next to other work
numbers   domain 66.4%, animal class 62.9%, environmental sound 25.6%, instrument 31.6%, spoken digit 14.0%, common name
          7.4%: above the majority class, below logistic regression but for animal class; README.md has the table
"""

import ml_collections

STEPS = {"stage1": 220, "stage2": 320}


def get_config(prepared: str = "runs/real_small/prepared") -> ml_collections.ConfigDict:
    data = {
        "train": (f"{prepared}/train",),
        "valid": (f"{prepared}/valid",),
        "seconds": 4.0,
        "rows": 8,
        "row_clips": 4,
        "row_tokens": 384,
        "row_answers": 80,
        "random_crop": True,
        "threads": 1,
        "prefetch": 2,
        # Mild: with 1,258 clips each presentation of a clip should differ a little.
        "augment": {"noise_prob": 0.4, "noise_snr": (5.0, 35.0), "time_scale_prob": 0.4, "time_scale": 1.15},
    }
    optim = {
        "peak_lr": 3e-3,
        "min_lr": 1e-4,
        "warmup_steps": 30,
        "beta2": 0.98,
        "weight_decay": 0.05,
    }
    stage1 = {
        "name": "stage1",
        "steps": STEPS["stage1"],
        "data": data
        | {
            # All naming tasks: the encoder is trained from scratch and needs every name.
            "tasks": ("common-name", "esc50-classification", "instrument", "spoken-digit"),
            "mixture": {"domain": {"bioacoustic": 0.5, "environment": 0.2, "music": 0.12, "speech": 0.18}},
        },
        "optim": optim,
    }
    stage2 = {
        "name": "stage2",
        "steps": STEPS["stage2"],
        "data": data
        | {
            "mixture": {
                "domain": {"bioacoustic": 0.5, "environment": 0.15, "music": 0.15, "speech": 0.2},
                "task": {"domain": 0.4, "speaker-count": 0.2, "taxonomic-name": 0.5, "scientific-name": 0.5},
            }
        },
        "optim": optim | {"peak_lr": 2e-3},
    }
    model = {
        "preset": "tiny",
        "base_dtype": "float32",
        "overrides": {
            "beats": {
                "patch_dim": 64,
                "width": 96,
                "layers": 1,
                "heads": 4,
                "mlp": 192,
                "conv_taps": 32,
                "conv_groups": 4,
                "layerdrop": 0.0,
                "predictor_classes": None,
            },
            "qformer": {"width": 96, "heads": 4, "mlp": 192, "dropout": 0.0},
            "llama": {"lora": {"rank": 8, "alpha": 16.0, "dropout": 0.0}},
        },
    }
    return ml_collections.ConfigDict(
        {
            "seed": 0,
            # The overrides stay plain dicts: nested sizes are merged level by level into the preset's.
            "model": ml_collections.ConfigDict(model, convert_dict=False),
            "stages": [stage1, stage2],
            "mesh": {"data": -1, "fsdp": 1, "tensor": 1},
            "checkpoint": {"every": 100},
            "eval": {"every": 0, "answers": 0},
            "log": {"every": 10, "tensorboard": True},
        }
    )
