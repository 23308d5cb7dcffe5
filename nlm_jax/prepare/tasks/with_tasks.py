"""The stage of `nlm prepare --instruct`: each example is followed by questions generated from its recording's facts."""

from collections.abc import Iterable, Iterator, Mapping

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.tasks import templates
from nlm_jax.prepare.tasks.generate import questions_about, with_instructions
from nlm_jax.prepare.tasks.pools import Pools
from nlm_jax.prepare.tasks.schema import Task

SHOWN = 8
"""Facts that a message lists at most."""


def selected_tasks(options: PrepareOptions) -> dict[str, Task]:
    """The tasks that `--instruct` selects, of the package and of `--templates`.

    Raises:
      UserError: faulty task files, or a task that does not exist.
    """
    return templates.select(templates.load(options.templates), options.instruct)


def with_tasks(
    examples: Iterable[Example], tasks: Mapping[str, Task], pools: Pools, options: PrepareOptions
) -> Iterator[Example]:
    """Yields the examples, each followed by the questions about its recording.

    Args:
      examples: those of the annotations.
      tasks: see `selected_tasks`.
      pools: of all `examples` and the same tasks.
      options: seed, tasks per recording and clips per question.

    Raises:
      UserError: at the end, if no recording has the facts that the tasks need.
    """
    has_examples = has_questions = False

    def originals() -> Iterator[Example]:
        nonlocal has_examples
        for example in examples:
            has_examples = True
            yield example

    def generate(example: Example) -> list[Example]:
        nonlocal has_questions
        questions = questions_about(
            example, tasks, options.seed, None, pools, options.tasks_per_recording, options.max_clips
        )
        has_questions = has_questions or bool(questions)
        return questions

    yield from with_instructions(originals(), generate)
    if has_examples and not has_questions:
        needed = sorted({fact for task in tasks.values() for fact in task.facts()})
        raise UserError(
            f"--instruct={options.instruct}: {options.annotations} has no recording with the facts that these tasks "
            f"need ({', '.join(needed[:SHOWN])}{', ...' if len(needed) > SHOWN else ''}); nlm data tasks lists them"
        )
