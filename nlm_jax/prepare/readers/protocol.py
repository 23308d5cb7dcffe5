"""Protocols of readers of annotations: modules with the functions of one of them, listed in `registry`."""

import pathlib
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from nlm_jax.data.schema import Example, Row
from nlm_jax.prepare.rejects import Notice, Reject


@runtime_checkable
class RowReader(Protocol):
    """Reads JSON objects, one at a time."""

    def matches(self, row: Row) -> bool:
        """Whether an object is of this format."""

    def examples(self, row: Row) -> Iterator[Example]:
        """The examples of an object.

        Raises:
          UserError: a field is missing or invalid, by file, line and field.
        """


@runtime_checkable
class FileReader(Protocol):
    """Reads files and folders: tables, recordings in folders, archives."""

    def opens(self, path: pathlib.Path) -> bool:
        """Whether a path is of this format. It must not raise for any other."""

    def examples(self, path: pathlib.Path, root: pathlib.Path) -> Iterator[Example | Reject | Notice]:
        """The examples of a path, in its order.

        Args:
          path: the annotations.
          root: folder of relative audio paths, from which examples name their recordings.

        Yields:
          Examples; a reject for each row without one; notices about a whole file.

        Raises:
          UserError: nothing in the path can be used.
        """
