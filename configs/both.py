"""Both stages in a row, in one workdir: stage 1, then stage 2 from its last checkpoint.

  command   nlm train --config=configs/both.py --workdir=runs/both \
              --config.init.llama=LLAMA_DIR --config.init.beats=BEATS.pt
  hardware  as configs/stage1.py
  time      the sum of configs/stage1.py and configs/stage2.py (computed, not yet measured)
  numbers   not yet measured
"""

import dataclasses
import pathlib

from nlm_jax.core.config import load
from nlm_jax.train.config import config_dict, train_config


def get_config():
    one, two = (train_config(load(pathlib.Path(__file__).with_name(f"stage{i}.py"))) for i in (1, 2))
    return config_dict(dataclasses.replace(one, stages=one.stages + two.stages))
