"""`nlm train`: both curriculum stages, or either, from a config file."""

import argparse
import os

from nlm_jax.core.config import load

SUMMARY = "train from a config file; resumes by itself"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nlm train`; `--config.a.b=value` overrides come in `args.overrides`."""
    parser.add_argument("--config", required=True, help="a .py file with get_config(), such as configs/stage1.py")
    parser.add_argument(
        "--workdir", required=True, help="directory of the run, a bucket's too; the same one again goes on"
    )
    parser.epilog = "--config.a.b=value overrides any field of the config, such as --config.mesh.tensor=4. "
    parser.epilog += (
        "SIGTERM and Ctrl-C save and stop; the same command goes on. Status 0 after SIGTERM, 130 after Ctrl-C."
    )


def run(args: argparse.Namespace) -> int:
    """Trains; 0 when finished or when SIGTERM stopped it, 130 when Ctrl-C did; a stopped run is saved."""
    from nlm_jax.train.config import TrainConfig, train_config
    from nlm_jax.train.loop import train

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return train(train_config(load(args.config, args.overrides, TrainConfig)), args.workdir)
