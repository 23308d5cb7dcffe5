"""What `nlm prepare --instruct` adds to the examples that annotations give."""

import argparse
import functools
from collections.abc import Callable, Iterator
from typing import Any

from nlm_jax.core import remote
from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example
from nlm_jax.prepare.tasks import templates
from nlm_jax.prepare.tasks.generate import about, with_instructions
from nlm_jax.prepare.tasks.pools import Pools

FIELDS = ("instruct", "templates", "seed", "tasks_per_recording", "max_clips")
"""Options of `nlm prepare` that are read here."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--instruct",
        nargs="?",
        const=templates.ALL,
        default="",
        metavar="TASKS",
        help="make questions from the facts of each recording: all (default), or names with * and commas",
    )
    parser.add_argument("--templates", type=remote.input_path, metavar="DIR", help="folder of task files of your own")
    parser.add_argument("--seed", type=int, default=0, help="of phrasings and candidates (default 0)")
    parser.add_argument(
        "--tasks-per-recording", type=int, default=0, metavar="N", help="so many of its tasks, by chance (0: all)"
    )
    parser.add_argument(
        "--max-clips", type=int, default=8, metavar="N", help="clips in one question; data.row_clips (default 8)"
    )


def asked(read: Callable[..., Iterator[Example]]) -> Callable[..., Iterator[Example]]:
    """Wraps what reads the examples of options: behind each come its instructions, where the options ask for any.

    The pools are made once, of the same examples.
    """

    @functools.wraps(read)
    def examples(options, *args, **kwargs) -> Iterator[Example]:
        if not options.instruct:
            if options.templates:
                raise UserError("--templates goes with --instruct; give --instruct as well")
            return read(options, *args, **kwargs)
        kept = vars(options).setdefault("_instructions", {})
        if not kept:
            tasks = chosen(options)
            held_out = options.taxa.reason if options.taxa else None  # no wrong answers either
            kept |= {"tasks": tasks, "pools": Pools.collect(read(options), tasks.values(), held_out)}
        return _counted(options, read(options, *args, **kwargs), **kept)

    return examples


def chosen(options) -> dict[str, templates.Task]:
    """The tasks that the options name.

    Raises:
      UserError: faulty files, a task that does not exist, or numbers that cannot be.
    """
    if options.tasks_per_recording < 0 or options.max_clips < 1:
        raise UserError("--tasks-per-recording must be at least 0 (0 = all of them), --max-clips at least 1")
    return templates.select(templates.load(options.templates), options.instruct)


def plan(options) -> dict[str, Any]:
    """What a continued run must have in common, for the plan of the directory; nothing without --instruct."""
    if not options.instruct:
        return {}
    said = {name: getattr(options, name) for name in FIELDS if name != "templates"}
    return {**said, "templates": templates.digest(chosen(options))}


def _counted(options, examples, tasks, pools) -> Iterator[Example]:
    seen = made = 0

    def each() -> Iterator[Example]:
        nonlocal seen
        for example in examples:
            seen += 1
            yield example

    def make(example: Example) -> list[Example]:
        nonlocal made
        new = about(example, tasks, options.seed, None, pools, options.tasks_per_recording, options.max_clips)
        made += len(new)
        return new

    yield from with_instructions(each(), make)
    if seen and not made:
        wanted = sorted({fact for task in tasks.values() for fact in task.facts()})
        raise UserError(
            f"--instruct={options.instruct}: {options.annotations} has no recording with the facts that these tasks "
            f"need ({', '.join(wanted[:8])}{', ...' if len(wanted) > 8 else ''}); nlm data tasks lists them"
        )
