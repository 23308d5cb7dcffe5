"""A training config whose step compiles in seconds, with every part of the real one."""

from nlm_jax.data.config import DataConfig
from nlm_jax.train.config import MeshConfig, ModelSetup, Stage, TrainConfig, config_dict


def get_config():
    overrides = {
        "beats": {"width": 128, "layers": 2, "heads": 4, "mlp": 256, "conv_taps": 16, "conv_groups": 4},
        "qformer": {"width": 128, "heads": 4, "mlp": 256},
        "llama": {"width": 256, "layers": 2, "heads": 2, "kv_heads": 2, "head_dim": 128, "mlp": 1024},
    }
    model = ModelSetup("tiny", "bfloat16", "bfloat16", remat="full", overrides=overrides)
    data = DataConfig(seconds=1.0, rows=16, row_tokens=128, row_clips=2, row_answers=32)
    return config_dict(TrainConfig(model=model, stages=(Stage(data=data),), mesh=MeshConfig(1, -1, 1)))
