"""`nlm train`: both curriculum stages, or either, from a config file."""

import argparse
import os
from typing import TYPE_CHECKING

from nlm_jax.core.config import load, override

if TYPE_CHECKING:
    from nlm_jax.train.config import TrainConfig

SUMMARY = "train from a config file; resumes by itself"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nlm train`; `--config.a.b=value` overrides come in `args.overrides`."""
    parser.add_argument(
        "--config", required=True, help="a .py file with get_config(), such as configs/stage1.py; or an official YAML"
    )
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
    from nlm_jax.train.official_config import is_official

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if is_official(args.config):
        return train(official(args), args.workdir)
    return train(train_config(load(args.config, args.overrides, TrainConfig)), args.workdir)


def official(args: argparse.Namespace) -> "TrainConfig":
    """The config of an official YAML file, its annotations prepared."""
    import pathlib

    from rich.console import Console

    from nlm_jax.prepare.options import PrepareOptions
    from nlm_jax.prepare.pipeline import prepare
    from nlm_jax.train.config import TrainConfig, train_config
    from nlm_jax.train.official_config import translate, unprepared, write_sides

    console = Console(stderr=True)
    found = translate(args.config, args.workdir)
    for warning in found.warnings:
        console.print(f"warning: {warning}", highlight=False, soft_wrap=True)
    override(found.config, args.overrides, TrainConfig)
    config = train_config(found.config)
    jobs = unprepared(found, config)
    write_sides(found)
    for out, annotations in jobs.items():
        options = PrepareOptions(
            pathlib.Path(annotations), pathlib.Path(out), tokenizer=config.tokenizer or found.tokenizer
        )
        prepare(options, workers=os.cpu_count() or 1, console=console)
    return config
