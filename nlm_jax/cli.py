"""`nlm COMMAND ...`: finds the command, parses its arguments, and prints a user error as one sentence.

A command is a module with `SUMMARY: str`, `add_arguments(parser)` and `run(args) -> int`. It is imported only if
it is called, so that `nlm --help` is fast.
"""

import argparse
import dataclasses
import difflib
import errno
import importlib
import sys
from collections.abc import Sequence

from nlm_jax import __version__
from nlm_jax.core import remote
from nlm_jax.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Command:
    """Module of a command, and its summary for `nlm --help`, which does not import it."""

    module: str
    summary: str
    overrides: bool = False
    """Whether it takes `--config.a.b=value`; the command gets them in `args.overrides`."""


COMMANDS = {
    "prepare": Command("nlm_jax.prepare.command", "recordings + annotations -> ArrayRecord shards + manifest"),
    "data": Command(
        "nlm_jax.describe.data_command",
        "look into prepared data, and list tasks: nlm data describe, nlm data tasks",
        overrides=True,
    ),
    "train": Command("nlm_jax.train.command", "train from a config file; resumes automatically", overrides=True),
    "import": Command(
        "nlm_jax.convert.import_command",
        "official NatureLM, Hugging Face Llama or Microsoft BEATs weights -> a directory of ours, tensor by tensor",
    ),
    "export": Command(
        "nlm_jax.convert.export_command",
        "weights of ours -> the official layout, a PEFT adapter, a merged Llama, or a BEATs encoder",
    ),
    "infer": Command("nlm_jax.generate.infer_command", "ask a question of recordings: files or folders of any length"),
    "evaluate": Command(
        "nlm_jax.evaluate.command",
        "answer BEANS-Zero or a held-out split with a model, and score predictions (BEANS-Zero's and BEANS-Next's "
        "scorer)",
    ),
    "serve": Command(
        "nlm_jax.serve.command", "answer over HTTP, by the predictions_v1 contract of BEANS-Next, and on a web page"
    ),
    "embed": Command(
        "nlm_jax.generate.embed_command",
        "vectors of recordings: of the encoder, the Q-Former, or in the language model's space",
    ),
    "check": Command(
        "nlm_jax.generate.check_command",
        "inspect a model: what each stage computes for a recording, and the known signs of failure",
    ),
    "plan": Command(
        "nlm_jax.plan.command",
        "will a training step fit an accelerator, and how fast, before renting it",
        overrides=True,
    ),
    "demo": Command(
        "nlm_jax.demo.command", "the whole path on a synthetic corpus (or --corpus), with a report", overrides=True
    ),
}

REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.ELOOP)
REFUSED += (errno.ENAMETOOLONG, errno.EDQUOT, errno.EEXIST)
"""File system errors that the user can fix: permissions, a full disk, a file in place of a folder or the reverse, or a
path that cannot be created."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; `argv` defaults to the process's own arguments.

    Returns:
      The exit status: 0, or 2 for bad input (one sentence on stderr), or 130 when interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage(), file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(f"nlm {__version__}")
        return 0
    name = argv[0]
    try:
        if name not in COMMANDS:
            print(f"nlm: error: {_no_such_command(name)}", file=sys.stderr)
            return 2
        return _run(name, argv[1:])
    except UserError as error:
        print(f"nlm {name}: error: {remote.with_urls(error)}", file=sys.stderr)
        return 2
    except OSError as error:
        # The user can fix these; any other OSError is a bug.
        if error.errno not in REFUSED:
            raise
        print(f"nlm {name}: error: {error.filename or 'the disk'}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"nlm {name}: interrupted", file=sys.stderr)
        return 130
    except SystemExit as stop:  # from argparse: --help, or a bad argument whose message is already printed
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)


def usage() -> str:
    """The text of `nlm --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: nlm COMMAND ...", "", *lines, "", "nlm COMMAND --help explains one; nlm --version"])


def _run(name: str, argv: list[str]) -> int:
    command = COMMANDS[name]
    module = importlib.import_module(command.module)
    parser = argparse.ArgumentParser(prog=f"nlm {name}", description=module.SUMMARY, allow_abbrev=False)
    module.add_arguments(parser)
    overrides = [a for a in argv if command.overrides and a.startswith("--config.")]
    for override in overrides:
        if "=" not in override:
            parser.error(f"{override}: an override reads {override}=VALUE, with the equals sign and no space")
    with remote.upload_at_exit():  # arguments may be bucket URLs
        args, unparsed = parser.parse_known_args([a for a in argv if a not in overrides])
        if unparsed:
            parser.error(_unknown_argument(unparsed[0], parser, command))
        if command.overrides:
            args.overrides = overrides
        return module.run(args)


def _no_such_command(name: str) -> str:
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    return f"no command {name!r}; " + (f"did you mean {close[0]!r}?" if close else f"commands: {', '.join(COMMANDS)}")


def _unknown_argument(argument: str, parser: argparse.ArgumentParser, command: Command) -> str:
    flag = argument.partition("=")[0]
    if flag.startswith("--config.") and not command.overrides:
        return f"{flag}: this command takes no config overrides"
    options = [option for action in parser._actions for option in action.option_strings]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):  # `nlm data`: options of its subcommands
            for subparser in action.choices.values():
                options += [option for nested in subparser._actions for option in nested.option_strings]
    close = difflib.get_close_matches(flag, options, n=1) if flag.startswith("-") else []
    return f"unknown argument {argument!r}; " + (
        f"did you mean {close[0]}?" if close else f"{parser.prog} --help lists them"
    )


if __name__ == "__main__":
    sys.exit(main())
