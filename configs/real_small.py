"""Both stages on a small real corpus (animals, environment, speech, music), for a CPU. `nlm demo --corpus` runs all of it.

command   nlm demo --corpus ../shared/corpus --config=configs/real_small.py --out=runs/real_small
hardware  2 CPU cores, 8 fake devices
time      about 15 minutes in all
numbers   in the README, section "The real corpus", beside two baselines of the same run
"""

import ml_collections

PERCEPTION = ("common-name", "scientific-name", "taxonomic-name", "animal-class", "esc50-classification")
"""Stage 1 names the focal sound. 227 clips of it alone would teach a random encoder little, so the environment counts."""


def get_config(prepared: str = "runs/real_small/prepared") -> ml_collections.ConfigDict:
    data = {
        "train": (f"{prepared}/train",),
        "valid": (f"{prepared}/valid",),
        "seconds": 4.0,  # most clips have 5: a random crop is the cheapest augmentation
        "rows": 8,
        "row_tokens": 448,
        "row_clips": 4,
        "row_answers": 96,
        "window_rows": 128,
        "random_crop": True,
        "threads": 1,
        "prefetch": 2,
        "augment": {"noise_prob": 0.4, "noise_snr": (0.0, 25.0)},
    }
    optim = {"peak_lr": 2e-3, "min_lr": 5e-5, "warmup_steps": 40, "beta2": 0.98, "weight_decay": 0.05}
    stage1 = {"name": "stage1", "steps": 350, "data": data | {"tasks": PERCEPTION}, "optim": optim}
    stage2 = {
        "name": "stage2",
        "steps": 700,
        "data": data | {"mixture": {"task": {"speaker-count": 0.1, "domain": 0.3, "esc50-classification": 2.0}}},
        "optim": optim | {"peak_lr": 1.5e-3},
    }
    model = {
        "preset": "tiny",
        "base_dtype": "float32",
        "overrides": {
            "beats": {
                "patch_dim": 64,
                "width": 96,
                "layers": 2,
                "heads": 4,
                "mlp": 192,
                "conv_taps": 32,
                "conv_groups": 4,
                "layerdrop": 0.05,
                "predictor_classes": None,
            },
            "qformer": {"width": 96, "heads": 4, "mlp": 192, "dropout": 0.1},
            "llama": {"lora": {"rank": 8, "alpha": 16.0, "dropout": 0.1}},
        },
    }
    return ml_collections.ConfigDict(
        {
            "seed": 0,
            # The overrides stay plain dicts: nested sizes are merged level by level into the preset's.
            "model": ml_collections.ConfigDict(model, convert_dict=False),
            "stages": [stage1, stage2],
            "mesh": {"data": 2, "fsdp": 2, "tensor": 2},
            "checkpoint": {"every": 100, "keep": 1},
            "eval": {"every": 0, "answers": 0},
            "log": {"every": 10, "tensorboard": True},
        }
    )
