"""`nlm data ...`: commands about prepared corpora, and about what can be made of annotations."""

import argparse
import importlib

SUMMARY = "look into prepared data, and list tasks: nlm data describe, nlm data tasks"
COMMANDS = {"describe": "nlm_jax.describe.command", "tasks": "nlm_jax.prepare.tasks.command"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    chosen = parser.add_subparsers(dest="data_command", required=True, metavar="{" + ",".join(COMMANDS) + "}")
    for name, module in COMMANDS.items():
        command = importlib.import_module(module)
        below = chosen.add_parser(name, help=command.SUMMARY, description=command.SUMMARY, allow_abbrev=False)
        command.add_arguments(below)


def run(args: argparse.Namespace) -> int:
    return importlib.import_module(COMMANDS[args.data_command]).run(args)
