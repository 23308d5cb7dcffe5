"""Streams of rows and examples: rows become examples, bad rows become rejects, repeats and rows without label go."""

import pathlib
from collections.abc import Callable, Iterable, Iterator

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example, Row
from nlm_jax.prepare.readers import columns
from nlm_jax.prepare.readers.row_examples import UNLABELLED
from nlm_jax.prepare.rejects import Notice, Reject


def recording_column(row: Row) -> str:
    """The cell of a row in which its recording is named; "" without one."""
    name = columns.layout(row.values).file
    return str(row.values[name]).strip() if name and row.values[name] else ""


def convert_rows(
    rows: Iterable[Row | Reject | Notice],
    convert: Callable[[Row], Iterable[Example | None]],
    recording: Callable[[Row], str] = recording_column,
) -> Iterator[Example | Reject | Notice | None]:
    """The examples of every row; a row whose conversion raises a UserError becomes a reject, and the next one follows.

    Args:
      rows: from `tables.rows`; rejects and notices pass through.
      convert: the examples of a row; None for a row that is skipped.
      recording: the name of the recording of a rejected row.
    """
    for row in rows:
        if isinstance(row, Reject | Notice):
            yield row
            continue
        try:
            yield from convert(row)
        except UserError as error:
            yield Reject(recording(row), row.where, str(error).removeprefix(f"{row.where}: "))


def without_skipped(
    path: pathlib.Path, items: Iterable[Example | Reject | Notice | None], columns: Iterable[str]
) -> Iterator[Example | Reject | Notice]:
    """The items without None, and a notice with the number of rows that were skipped or have no label.

    Args:
      path: the annotations, for messages.
      items: from `convert_rows`.
      columns: their names, for messages.

    Raises:
      UserError: no row has a label.
    """
    examples = skipped = 0
    for item in items:
        skipped += item is None or (isinstance(item, Reject) and item.reason == UNLABELLED)
        examples += isinstance(item, Example)
        if item is not None:
            yield item
    if skipped and not examples:
        accepted = "label, caption, common_name, scientific_name, or prompt and text"
        names = ", ".join(sorted(columns))
        raise UserError(f"{path}: no row says what is heard; have a column {accepted}. Its columns are {names}")
    if skipped:
        yield Notice(
            f"{path}: {skipped} of {skipped + examples} rows say nothing about their recording and are left out"
        )


def unique_examples(items: Iterable[Example | Reject | Notice]) -> Iterator[Example | Reject | Notice]:
    """The items without repeated examples; examples whose id is the name of their recording are all kept.

    Raises:
      UserError: two different examples have one id; it names both places.
    """
    first: dict[str, tuple[int, str]] = {}  # id -> content and place
    for item in items:
        if not isinstance(item, Example) or item.id.startswith(item.paths[0]):
            yield item
            continue
        content = hash((item.paths, item.prompt, item.text))
        first_content, first_place = first.setdefault(item.id, (content, item.where))
        if first_content != content:
            raise UserError(f"{item.where}: id {item.id!r} is that of {first_place} as well; give each row its own id")
        if first_place == item.where:
            yield item
