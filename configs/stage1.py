"""Stage 1, perception pretraining: focal species classification only, Llama 3.1-8B (arXiv 2411.07186, section 4).

  command   nlm train --config=configs/stage1.py --workdir=runs/stage1 \
              --config.init.llama=LLAMA_DIR --config.init.beats=BEATS.pt \
              --config.stages.0.data.train="('PREPARED',)" --config.stages.0.data.valid="('PREPARED_VALID',)"
  hardware  meant for 16 TPU v5e or 8 GPUs of 80 GB (fsdp over all of them); the mesh is --config.mesh.*
  time      computed, not yet measured: 500,000 steps of 128 examples are 2.4e20 model FLOPs; at 40 % MFU about 2.2 days
            on 16 TPU v5e, 0.9 days on 8 H100
  numbers   not yet measured; the paper reports the figures of the model after stage 2
"""

from nlm_jax.data.config import AugmentConfig, DataConfig
from nlm_jax.train.config import (
    CheckpointConfig,
    EvalConfig,
    Init,
    LogConfig,
    MeshConfig,
    ModelSetup,
    Stage,
    TrainConfig,
    config_dict,
)
from nlm_jax.train.optim import OptimConfig
from nlm_jax.train.partition import Components


def get_config():
    data = DataConfig(
        train=("data/focal_train",),
        valid=("data/focal_valid",),
        seconds=10.0,
        rows=16,  # of eight clips: the paper's 128 examples a step
        row_tokens=1024,
        row_clips=8,
        row_answers=256,
        seed=13,
        workers=8,
        augment=AugmentConfig(noise_prob=0.4, noise_snr=(-10.0, 25.0)),
    )
    optim = OptimConfig(
        peak_lr=9e-5, min_lr=1e-5, warmup_steps=5000, warmup_start_lr=0.0, steps_per_epoch=10_000, weight_decay=0.05
    )
    return config_dict(
        TrainConfig(
            seed=13,
            model=ModelSetup(
                "llama-3.1-8b", compute_dtype="bfloat16", base_dtype="bfloat16", remat="mlp", max_txt_len=200
            ),
            init=Init(
                llama="meta-llama/Llama-3.1-8B-Instruct", beats="BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt"
            ),
            stages=(
                Stage(
                    name="stage1",
                    steps=50 * 10_000,
                    data=data,
                    optim=optim,
                    train=Components(beats=True, qformer=True, projection=True, lora=True, base=False),
                ),
            ),
            mesh=MeshConfig(data=1, fsdp=-1, tensor=1),
            checkpoint=CheckpointConfig(every=1000),
            eval=EvalConfig(every=5000, examples=2048, answers=2, max_new_tokens=60),
            log=LogConfig(every=20),
        )
    )
