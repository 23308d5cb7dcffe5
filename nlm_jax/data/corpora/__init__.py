"""Readers of annotation files. To add one: a module with `matches(row)` and `examples(row)`, listed here."""

import pathlib
from collections.abc import Iterator

from nlm_jax.core.errors import UserError
from nlm_jax.data.corpora import manifest, official_jsonl
from nlm_jax.data.schema import Example, read_rows

READERS = {"manifest": manifest, "official": official_jsonl}  # the first that matches the first row is taken


def read(path: str | pathlib.Path, kind: str = "auto", split: str | None = None) -> Iterator[Example]:
    """Examples of an annotation file, in its order; `split` keeps those of one split.

    Raises:
      UserError: unreadable file, missing field (with file and line), unknown kind.
    """
    if kind != "auto" and kind not in READERS:
        raise UserError(f"--format={kind}: unknown; choose one of auto, {', '.join(READERS)}")
    reader = READERS.get(kind)
    for row in read_rows(pathlib.Path(path)):
        if reader is None:
            reader = next(r for r in READERS.values() if r.matches(row))
        for example in reader.examples(row):
            if split is None or example.split == split:
                yield example
