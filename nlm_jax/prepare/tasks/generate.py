"""Generates questions from facts: several for each recording, each a function of the seed and the example's id."""

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
"""Between the id of an example and the task, in the id of a question about its recording."""
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
    """Generates questions about recordings; none about examples without facts, or with several clips.

    Args:
      examples: read twice, first for the pools: a sequence, or a function that opens them. An iterator is stored in
        memory, unless `pools` is given.
      seed: with the id of an example and the name of a task it decides all that is random.
      tasks: names and patterns of the package's tasks, or tasks from `templates.load`.
      split: phrasings of this split for all; None: those of each example's own split (`side_of`).
      pools: from `Pools.collect` with the same tasks; None: collected from the examples.
      per_recording: tasks for each recording, sampled by seed and id of those that it has the facts for; 0 = all.
      max_clips: clips in one prompt (`data.row_clips`).
      held_out: taxa that must not be wrong candidates: names of species, genera and families, or a function that is
        true for examples about them.

    Yields:
      Questions, recording by recording, in the order of the tasks.

    Raises:
      UserError: a task that does not exist, or an invalid number.
    """
    if per_recording < 0 or max_clips < 1:
        raise UserError("tasks per recording must be at least 0 (0 = all of them), clips of a prompt at least 1")
    selected = dict(tasks) if isinstance(tasks, Mapping) else templates.select(templates.load(), tasks)
    if pools is None and isinstance(examples, Iterator):
        examples = list(examples)

    def generate() -> Iterator[Example]:  # a generator of its own, so that the call itself raises for bad arguments
        collected = pools or Pools.collect(_open(examples), selected.values(), held_out)
        for example in _open(examples):
            yield from questions_about(example, selected, seed, split, collected, per_recording, max_clips)

    return generate()


def _open(examples: Source) -> Iterable[Example]:
    return examples() if callable(examples) else examples


def questions_about(
    example: Example,
    tasks: Mapping[str, Task],
    seed: int,
    split: str | None,
    pools: Pools,
    per_recording: int = 0,
    max_clips: int = 8,
) -> list[Example]:
    """The questions about the recording of one example, in the order of the tasks.

    Args:
      example: with the facts of its recording.
      tasks: name -> task.
      seed: as for `instruct`.
      split: as for `instruct`.
      pools: of the corpus.
      per_recording: as for `instruct`.
      max_clips: as for `instruct`.
    """
    if not example.facts or len(example.paths) != 1:
        return []
    values, side = pools.fields_of(example.facts), side_of(example.split if split is None else split)
    names = list(tasks)
    if per_recording:
        names.sort(key=lambda name: digest(str(seed), example.id, name, "chosen"))
    generated: dict[str, Example] = {}
    for name in names:
        question = questions.ask(
            tasks[name], example.id, example.paths[0], example.split, values, pools, seed, side, max_clips
        )
        if question is None:
            continue
        generated[name] = dataclasses.replace(
            example,
            id=f"{example.id}{SEPARATOR}{name}",
            paths=question.paths,
            prompt=question.prompt,
            text=question.text,
            task=name,
        )
        if per_recording and len(generated) == per_recording:
            break
    return [generated[name] for name in tasks if name in generated]


def with_instructions(examples: Iterable[Example], generate: Callable[[Example], list[Example]]) -> Iterator[Example]:
    """The examples of a corpus, each followed by the generated questions about its recording.

    An example is left out if a reader put in its question: that is a test phrasing, and a fact is the answer. Questions
    about a recording with several examples in a row are generated once.

    Args:
      examples: of the corpus.
      generate: the questions about the recording of an example, such as `questions_about`.
    """
    test_phrasings = {schema.comparable(text) for task in templates.load().values() for text in task.test}
    last: tuple | None = None
    for example in examples:
        prompt = schema.comparable(example.prompt.replace(CLIP_MARK, ""))
        if not (example.facts and prompt in test_phrasings and example.text in example.facts.values()):
            yield example
        if example.facts and (example.paths, example.facts) != last:
            last = (example.paths, example.facts)
            yield from generate(example)
