"""Readers of annotations. To add one, list its module here: of JSON objects, with `matches(row)` and `examples(row)`;
of anything else, with `opens(path)` and `examples(path)`."""

import pathlib
from collections.abc import Iterator

from nlm_jax.core.errors import UserError
from nlm_jax.data.corpora import audacity, folder, manifest, official_jsonl, raven
from nlm_jax.data.schema import Example, read_rows

READERS = {"manifest": manifest, "official": official_jsonl}  # the first that matches the first row is taken
FILES = {"folder": folder, "raven": raven, "audacity": audacity}  # the first that opens the path is taken
KINDS = ("auto", *READERS, *FILES)


def read(path: str | pathlib.Path, kind: str = "auto", split: str | None = None) -> Iterator[Example]:
    """Examples of a file or folder of annotations, in its order; `split` keeps those of one split.

    Raises:
      UserError: unreadable file, missing field (with file and line), unknown kind.
    """
    if kind not in KINDS:
        raise UserError(f"--format={kind}: unknown; choose one of {', '.join(KINDS)}")
    for example in _all(pathlib.Path(path), kind):
        if split is None or example.split == split:
            yield example


def _all(path: pathlib.Path, kind: str) -> Iterator[Example]:
    opened = FILES.get(kind) or (next((r for r in FILES.values() if r.opens(path)), None) if kind == "auto" else None)
    if opened is not None:
        yield from opened.examples(path)
        return
    reader = READERS.get(kind)
    for row in read_rows(path):
        if reader is None:
            reader = next(r for r in READERS.values() if r.matches(row))
        yield from reader.examples(row)
