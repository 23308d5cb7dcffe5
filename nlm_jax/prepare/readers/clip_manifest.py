"""A clip manifest: one object per recording with its main question and `extra_tasks`, domain, split and licence."""

from collections.abc import Iterator

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, Row
from nlm_jax.prepare.readers import recording_facts


def matches(row: Row) -> bool:
    """Whether an object lists further tasks, or the domain and licence of its clip."""
    return "extra_tasks" in row.values or {"domain", "licence", "split"} <= set(row.values)


def examples(row: Row) -> Iterator[Example]:
    """The main question of a clip, then its further ones, about the same recording.

    Raises:
      UserError: a field is missing or invalid.
    """
    paths, ident = row.paths(), row.text("id", "path", empty=False)
    extra = row.values.get("extra_tasks") or []
    if not isinstance(extra, list) or not all(isinstance(item, dict) for item in extra):
        raise UserError(f"{row.where}: field 'extra_tasks' must be a list of objects with task, prompt and text")
    facts = recording_facts.of_annotation(row.values)
    for number, item in enumerate([row.values, *extra]):
        question = Row(item, row.where if number == 0 else f"{row.where}: extra_tasks[{number - 1}]")
        task = question.text("task", empty=False)
        yield Example(
            id=f"{ident}#{number}-{task}",
            paths=paths,
            prompt=question.text("prompt", empty=False),
            text=question.text("text"),
            task=task,
            domain=row.text("domain", default="unknown"),
            licence=row.text("licence", "license", default="unknown"),
            label=row.text("label", default=""),
            split=row.text("split", default=""),
            where=row.where,
            facts=facts,
        )
