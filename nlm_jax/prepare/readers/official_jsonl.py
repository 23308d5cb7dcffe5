"""The official training format: `path` or `files`, `prompt`, `text`, `task`; an object a line or under "annotation"."""

from collections.abc import Iterator

from nlm_jax.data.schema import Example, Row
from nlm_jax.prepare.readers import recording_facts


def matches(row: Row) -> bool:
    """Any object: this reader comes last and names what is missing."""
    return True


def examples(row: Row) -> Iterator[Example]:
    """The one example of an object."""
    number = row.where.rpartition(":")[2].removeprefix(" entry ")
    yield Example(
        id=row.text("id", default=number),
        paths=row.paths(),
        prompt=row.text("prompt", empty=False),
        text=row.text("text"),
        task=row.text("task", empty=False),
        domain=row.text("domain", default="unknown"),
        licence=row.text("licence", "license", default="unknown"),
        label=row.text("label", "labels", default="") if not isinstance(row.values.get("labels"), list) else "",
        split=row.text("split", default=""),
        where=row.where,
        facts=recording_facts.given(row.values),
    )
