"""Stage 2, generalisation fine-tuning: every task plus speech and music, from stage 1 (arXiv 2411.07186, section 4).

  command   nlm train --config=configs/stage2.py --workdir=runs/stage2 --config.init.run=runs/stage1 \
              --config.stages.0.data.train="('PREPARED', 'SPEECH', 'MUSIC')"
  hardware  as configs/stage1.py
  time      computed, not yet measured: 2,000,000 steps of 128 examples are 9.5e20 model FLOPs; at 40 % MFU about 9 days
            on 16 TPU v5e, 3.5 days on 8 H100
  numbers   not yet measured; the paper's for this recipe are in its tables 2 to 6
"""

import dataclasses
import pathlib

from nlm_jax.core.config import load
from nlm_jax.data.config import AugmentConfig
from nlm_jax.train.config import Init, config_dict, train_config


def get_config():
    stage1 = train_config(load(pathlib.Path(__file__).with_name("stage1.py")))
    stage = stage1.stages[0]
    data = dataclasses.replace(
        stage.data,
        train=("data/all_train", "data/speech_train", "data/music_train"),
        valid=("data/all_valid",),
        augment=AugmentConfig(
            noise_prob=0.4, noise_snr=(-10.0, 25.0), mixup_prob=0.45, mixup_partners=2, none_prob=0.1
        ),
    )
    stage2 = dataclasses.replace(stage, name="stage2", steps=200 * 10_000, data=data)
    # The optimizer and its schedule restart; trained weights come from the last checkpoint of stage 1.
    return config_dict(dataclasses.replace(stage1, stages=(stage2,), init=Init(run="runs/stage1", run_which="last")))
