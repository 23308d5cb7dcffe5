"""The official training format: `path` or `files`, `prompt`, `text`, `task`; an object a line or under "annotation"."""

from collections.abc import Iterator

from nlm_jax.data.schema import Example, Row
from nlm_jax.prepare.readers import recording_facts


def matches(row: Row) -> bool:
    """True for any object: this reader comes last and names what is missing."""
    return True


def examples(row: Row) -> Iterator[Example]:
    """The one example of an object.

    Raises:
      UserError: a field is missing or invalid.
    """
    number = row.where.rpartition(":")[2].removeprefix(" entry ")
    label = "" if isinstance(row.values.get("labels"), list) else row.text("label", "labels", default="")
    yield Example(
        id=row.text("id", default=number),
        paths=row.paths(),
        prompt=row.text("prompt", empty=False),
        text=row.text("text"),
        task=row.text("task", empty=False),
        domain=row.text("domain", default="unknown"),
        licence=row.text("licence", "license", default="unknown"),
        label=label,
        split=row.text("split", default=""),
        where=row.where,
        facts=recording_facts.of_annotation(row.values),
    )
