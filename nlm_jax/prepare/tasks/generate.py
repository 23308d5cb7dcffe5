"""Instructions from facts: several questions about each recording, each a function of the seed and the example's id."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example
from nlm_jax.data.text import CLIP_MARK
from nlm_jax.prepare.tasks import questions, schema, templates
from nlm_jax.prepare.tasks.deterministic import digest
from nlm_jax.prepare.tasks.pools import HeldOut, Pools, side_of
from nlm_jax.prepare.tasks.schema import Task

SEPARATOR = "@"
"""Between the id of an example and the task, in the ids of what is made from it."""
Source = Iterable[Example] | Callable[[], Iterable[Example]]


def instruct(
    examples: Source,
    seed: int = 0,
    tasks: str | Sequence[str] | Mapping[str, Task] = templates.ALL,
    split: str | None = None,
    *,
    pools: Pools | None = None,
    per_recording: int = 0,
    max_clips: int = 8,
    held_out: HeldOut | None = None,
) -> Iterator[Example]:
    """Questions about the recordings of `examples`; those without facts, or of several clips, give none.

    Args:
      examples: read twice, the first time for the pools of other answers: a function that opens them anew, or a
        sequence. An iterator is kept in memory, unless `pools` is given.
      seed: with the id of an example and the name of a task it decides everything that is left to chance.
      tasks: names and patterns of the package's tasks, or tasks that `templates.load` has read.
      split: phrasings of this split for all; by default those of each example's own (`side_of`).
      pools: made by `Pools.collect` from the same tasks.
      per_recording: so many of the tasks that a recording has the facts for, drawn by seed and id; 0 = all of them.
      max_clips: clips in one prompt (`data.row_clips`).
      held_out: taxa that must not be among the wrong answers: names of species, genera and families, or a function
        that is true of examples about them.

    Raises:
      UserError: a task that does not exist, or numbers that cannot be.
    """
    if per_recording < 0 or max_clips < 1:
        raise UserError("tasks per recording must be at least 0 (0 = all of them), clips of a prompt at least 1")
    chosen = dict(tasks) if isinstance(tasks, Mapping) else templates.select(templates.load(), tasks)
    opened: Callable[[], Iterable[Example]]
    if callable(examples):
        opened = examples
    else:
        kept = list(examples) if pools is None and isinstance(examples, Iterator) else examples
        opened = lambda: kept  # noqa: E731
    # Mistakes are reported by the call, not by the first question.
    return _made(opened, chosen, seed, split, pools, per_recording, max_clips, held_out)


def _made(opened, chosen, seed, split, pools, per_recording, max_clips, held_out) -> Iterator[Example]:
    pools = pools or Pools.collect(opened(), chosen.values(), held_out)
    for example in opened():
        yield from about(example, chosen, seed, split, pools, per_recording, max_clips)


def about(
    example: Example,
    tasks: Mapping[str, Task],
    seed: int,
    split: str | None,
    pools: Pools,
    per_recording: int = 0,
    max_clips: int = 8,
) -> list[Example]:
    """The questions about one recording, in the order of `tasks`; arguments as for `instruct`."""
    if not example.facts or len(example.paths) != 1:
        return []
    known, side = pools.described(example.facts), side_of(example.split if split is None else split)
    names = list(tasks)
    if per_recording:
        names.sort(key=lambda name: digest(str(seed), example.id, name, "chosen"))
    made: dict[str, Example] = {}
    for name in names:
        question = questions.ask(
            tasks[name], example.id, example.paths[0], example.split, known, pools, seed, side, max_clips
        )
        if question is None:
            continue
        made[name] = dataclasses.replace(
            example,
            id=f"{example.id}{SEPARATOR}{name}",
            paths=question.paths,
            prompt=question.prompt,
            text=question.text,
            task=name,
        )
        if per_recording and len(made) == per_recording:
            break
    return [made[name] for name in tasks if name in made]


def with_instructions(examples: Iterable[Example], make: Callable[[Example], list[Example]]) -> Iterator[Example]:
    """The examples of a corpus, each followed by what `make` (as `about`) makes of its recording.

    Left out is a question that readers ask by themselves: one in the words of a test phrasing that a fact answers.
    Where one recording has several questions in a row, instructions about it are made once.
    """
    spoken = {schema.same(text) for task in templates.load().values() for text in task.test}
    last: tuple | None = None
    for example in examples:
        prompt = schema.same(example.prompt.replace(CLIP_MARK, ""))
        if not (example.facts and prompt in spoken and example.text in example.facts.values()):
            yield example
        if example.facts and (example.paths, example.facts) != last:
            last = (example.paths, example.facts)
            yield from make(example)
