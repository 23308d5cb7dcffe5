"""`nlm train`: both curriculum stages, or either, from a config file."""

import argparse
import os

from nlm_jax.core.config import load, override

SUMMARY = "train from a config file; resumes automatically"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nlm train`; `--config.a.b=value` overrides come in `args.overrides`."""
    parser.add_argument(
        "--config", required=True, help="a .py file with get_config(), such as configs/stage1.py; or an official YAML"
    )
    parser.add_argument(
        "--workdir", required=True, help="directory or bucket URL of the run; an existing run is resumed"
    )
    parser.epilog = "--config.a.b=value overrides any field of the config, such as --config.mesh.tensor=4. "
    parser.epilog += "SIGTERM and Ctrl-C save a checkpoint and stop; the same command resumes. "
    parser.epilog += "Status 0 after SIGTERM, 130 after Ctrl-C."


def run(args: argparse.Namespace) -> int:
    """Trains; returns 0 if finished or stopped by SIGTERM, 130 if stopped by Ctrl-C. A stopped run has been saved."""
    from nlm_jax.train.config import TrainConfig, train_config
    from nlm_jax.train.loop import train
    from nlm_jax.train.official_config import is_official

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if is_official(args.config):
        return train(official(args), args.workdir)
    return train(train_config(load(args.config, args.overrides, TrainConfig)), args.workdir)


def official(args: argparse.Namespace):
    """Translates an official YAML file and prepares its annotations.

    Args:
      args: of `nlm train`; `args.config` is the file.

    Returns:
      the `TrainConfig`, with the overrides of `args`.
    """
    import pathlib

    from rich.console import Console

    from nlm_jax.prepare.options import PrepareOptions
    from nlm_jax.prepare.pipeline import prepare
    from nlm_jax.train.config import TrainConfig, train_config
    from nlm_jax.train.official_config import translate, unprepared, write_sides

    console = Console(stderr=True)
    translated = translate(args.config, args.workdir)
    for warning in translated.warnings:
        console.print(f"warning: {warning}", highlight=False, soft_wrap=True)
    override(translated.config, args.overrides, TrainConfig)
    config = train_config(translated.config)
    jobs = unprepared(translated, config)
    write_sides(translated)
    for out, annotations in jobs.items():
        options = PrepareOptions(
            pathlib.Path(annotations), pathlib.Path(out), tokenizer=config.tokenizer or translated.tokenizer
        )
        prepare(options, workers=os.cpu_count() or 1, console=console)
    return config
