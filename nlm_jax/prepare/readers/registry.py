"""Reads annotations of any format. A new format is a module listed here, see `protocol` for what it must define."""

import glob
import hashlib
import pathlib
from collections.abc import Iterable, Iterator, Sequence

from nlm_jax.core.errors import UserError
from nlm_jax.data import shards
from nlm_jax.data.schema import Example, part_of, read_rows
from nlm_jax.prepare import tars
from nlm_jax.prepare.readers import (
    animalspeak,
    audacity,
    clip_manifest,
    darwin_core,
    datasets,
    detect_format,
    folder,
    label_files,
    naturelm,
    official_jsonl,
    raven,
    read_report,
    webdataset,
    xeno_canto,
)
from nlm_jax.prepare.readers.protocol import FileReader, RowReader
from nlm_jax.prepare.rejects import Notice, ReadAs, Reject, Report

ROW_READERS: dict[str, RowReader] = {"manifest": clip_manifest, "official": official_jsonl}
"""By priority: the first that matches the first row is used."""
FILE_READERS: dict[str, FileReader] = {
    "folder": folder,
    "table": label_files,
    "datasets": datasets,
    "webdataset": webdataset,
    "darwin-core": darwin_core,
    "inaturalist": darwin_core,
    "animalspeak": animalspeak,
    "xeno-canto": xeno_canto,
    "raven": raven,
    "audacity": audacity,
    "naturelm": naturelm,
}
"""From general to particular: the last that opens the path is used."""
FORMATS = ("auto", *ROW_READERS, *FILE_READERS)
SUFFIXES = (*shards.TABLES, ".tar", ".parquet", ".arrow")
"""Suffixes of files of annotations."""
MAX_REASONS = 3
"""Reasons of rejects in one message."""


def read(
    path: str | pathlib.Path,
    format: str = "auto",
    split: str | None = None,
    root: pathlib.Path | None = None,
    report: Report | None = None,
) -> Iterator[Example]:
    """The examples of a file or folder of annotations, in its order.

    Args:
      path: the annotations.
      format: one of `FORMATS`.
      split: keep the examples of this split; None keeps all.
      root: folder of relative audio paths; None: `default_root`.
      report: takes rejects and notices; without it notices are logged once a call.

    Raises:
      UserError: unreadable file, missing field (with file and line), unknown format, or no row that can be used.
    """
    format, path, report = format.replace("_", "-"), pathlib.Path(path), report or Report()
    if format not in FORMATS:
        raise UserError(f"--format={format}: unknown; choose one of {', '.join(FORMATS)}")
    items = _items(path, format, default_root(path) if root is None else root)
    for example in _report_others(items, path, report):
        if split is None or example.split == split:
            yield example


def _items(path: pathlib.Path, format: str, root: pathlib.Path) -> Iterator[Example | Reject | Notice | ReadAs]:
    if format == "auto":
        format = _detected(path, root) or format
    if format in FILE_READERS:
        examples = FILE_READERS[format].examples(path, root)
        yield from read_report.with_read_as(examples, format, path, root)
        return
    reader = ROW_READERS.get(format)
    for row in read_rows(path):
        reader = reader or next(r for r in ROW_READERS.values() if r.matches(row))
        yield from reader.examples(row)


def _detected(path: pathlib.Path, root: pathlib.Path) -> str:
    """The format of a path; "" for rows of JSON."""
    if path.is_dir():
        return detect_format.of_folder(path, root, FILE_READERS)
    return detect_format.of_file(path, FILE_READERS)


def _report_others(
    items: Iterable[Example | Reject | Notice | ReadAs], path: pathlib.Path, report: Report
) -> Iterator[Example]:
    """The examples among the items; the report takes the others.

    Raises:
      UserError: all items are rejects.
    """
    any_example, first_rejects = False, Report()
    for item in map(_checked, items):
        if isinstance(item, Example):
            any_example = True
            yield item
            continue
        report.add(item)
        if isinstance(item, Reject) and not any_example:
            first_rejects.add(item)
    if first_rejects.rejects and not any_example:
        raise UserError(f"{path}: {all_rejected(first_rejects.rejects)}")


def _checked(item: Example | Reject | Notice | ReadAs) -> Example | Reject | Notice | ReadAs:
    """The item; a reject in place of an example of an invalid part of a recording."""
    try:
        for name in item.paths if isinstance(item, Example) else ():
            part_of(name)
    except UserError as error:
        return Reject(name, item.where, str(error).removeprefix(f"{name}: "))
    return item


def all_rejected(rejects: Sequence[Reject]) -> str:
    """A message that all rows were rejected, with the first reasons."""
    reasons = list(dict.fromkeys(f"{reject.where}: {reject.reason}" for reject in rejects))[:MAX_REASONS]
    return f"none of {len(rejects)} rows can be used; {'; '.join(reasons)}"


def default_root(path: pathlib.Path) -> pathlib.Path:
    """The folder of annotations: their own, that of their file, or the one above the first `*` or `{` of a pattern."""
    if path.is_dir():
        return path
    parts = [] if path.exists() else list(path.parts)
    first = next((n for n, part in enumerate(parts) if glob.has_magic(part) or "{" in part), None)
    return path.parent if first is None else pathlib.Path(*parts[:first])


def digest(path: pathlib.Path) -> str:
    """A digest of annotations: SHA-256 of their content; of the commit for a snapshot of the hub, of which more files
    may be fetched later; of the names and sizes of the tars for a pattern."""
    if path.is_dir() and path.parent.name == "snapshots":
        return hashlib.sha256(f"{path.parent.parent.name}@{path.name}".encode()).hexdigest()
    if path.exists():
        return shards.digest(path)
    lines = [f"{file.relative_to(default_root(path))} {file.stat().st_size} " for file in tars.matching(path)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
