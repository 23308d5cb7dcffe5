"""The demo's two stages: naming species, then every task with speech and music. `nlm demo` runs them and the rest.

command   bash launch/demo.sh                     (= nlm demo --config=configs/demo.py --out=demo_out)
hardware  2 CPU cores, 8 fake devices
time      with 300 steps of stage 2, from a warm installation: 6 min 27 s on two idle cores, 12 minutes on two that a
          busy host shared; the 40 steps since then were timed on the latter only (aim: 8 minutes)
numbers   naming after stage 1 94.4% of 160 questions about held-out individuals (aim: 90%); after stage 2 domain 88.8%,
          common name 87.5%, scientific name 85.6%, taxonomy 83.1%, call type 83.8%, individuals 81.9%, detection 84.4%,
          speakers 88.3%, spoken word 98.8%, instrument 95.3% (aim: 80% each). Another processor rounds differently,
          which changes each by a few questions.
"""

import ml_collections

STEPS = {"stage1": 170, "stage2": 340}


def get_config(prepared: str = "demo_out/prepared") -> ml_collections.ConfigDict:
    data = {
        "train": (f"{prepared}/train",),
        "valid": (f"{prepared}/valid",),
        "seconds": 2.0,
        "rows": 16,
        "row_clips": 3,
        "window_rows": 256,
        "random_crop": True,  # of clips half a second longer
        "threads": 1,
        "prefetch": 2,
    }
    optim = {
        "peak_lr": 3e-3,
        "min_lr": 1e-4,
        "warmup_steps": 20,
        "beta2": 0.98,
        "weight_decay": 0.01,
    }
    stage1 = {
        "name": "stage1",
        "steps": STEPS["stage1"],
        "data": data | {"tasks": ("common-name",), "row_tokens": 96, "row_answers": 16},
        "optim": optim,
    }
    stage2 = {
        "name": "stage2",
        "steps": STEPS["stage2"],
        "data": data
        | {
            "row_tokens": 100,
            "row_answers": 28,
            "mixture": {
                "domain": {"animal": 0.63, "speech": 0.17, "music": 0.15, "environment": 0.05},
                # Names were learnt in stage 1. The loss is a mean over tokens: captions would take most of it.
                "task": {
                    "domain": 0.6,
                    "captioning": 0.05,
                    "common-name": 0.5,
                    "scientific-name": 1.1,
                    "taxonomic-name": 1.6,
                    "call-type": 3.0,
                    "individual-count": 4.2,
                    "common-simple-detection": 3.0,
                    "speaker-count": 0.4,
                    "spoken-word": 1.2,
                },
            },
        },
        "optim": optim | {"peak_lr": 1.8e-3},
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
            "mesh": {"data": 8, "fsdp": 1, "tensor": 1},
            "checkpoint": {"every": 100},
            "eval": {"every": 0, "answers": 0},
            "log": {"every": 10, "tensorboard": True},
        }
    )
