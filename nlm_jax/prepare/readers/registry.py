"""Readers of annotations. To add one, list its module here: of JSON objects, with `matches(row)` and `examples(row)`;
of anything else, with `opens(path)` and `examples(path, root)`, which names recordings from the audio root."""

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
    webdataset,
    xeno_canto,
)
from nlm_jax.prepare.rejects import Notice, ReadAs, Reject, Report

READERS = {"manifest": clip_manifest, "official": official_jsonl}  # the first that matches the first row is taken
FILES = {  # from general to particular: the last that opens the path is taken
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
KINDS = ("auto", *READERS, *FILES)
SHOWN = 3
"""Reasons that a message lists at most."""
SUFFIXES = (*shards.TABLES, ".tar", ".parquet", ".arrow")


def read(
    path: str | pathlib.Path,
    kind: str = "auto",
    split: str | None = None,
    root: pathlib.Path | None = None,
    report: Report | None = None,
) -> Iterator[Example]:
    """Examples of a file or folder of annotations, in its order; `split` keeps those of one split.

    Args:
      path: the annotations.
      kind: one of `KINDS`.
      split: keep the examples of this split.
      root: folder of relative audio paths; default: the folder of the annotations.
      report: takes the rows that no example is made of, and notices; without it notices are logged once a call.

    Raises:
      UserError: unreadable file, missing field (with file and line), unknown kind, or not one row that can be used.
    """
    kind, path, report = kind.replace("_", "-"), pathlib.Path(path), report or Report()
    if kind not in KINDS:
        raise UserError(f"--format={kind}: unknown; choose one of {', '.join(KINDS)}")
    for example in usable(_all(path, kind, home(path) if root is None else root), path, report):
        if split is None or example.split == split:
            yield example


def usable(
    stream: Iterable[Example | Reject | Notice | ReadAs], path: pathlib.Path, report: Report
) -> Iterator[Example]:
    """The examples of a stream; the report takes the rest.

    Raises:
      UserError: there are rejects alone.
    """
    used, rejects = False, Report()
    for item in map(_checked, stream):
        if isinstance(item, Example):
            used = True
            yield item
            continue
        report.add(item)
        if isinstance(item, Reject) and not used:
            rejects.add(item)
    if rejects.rejects and not used:
        raise UserError(f"{path}: {unusable(rejects.rejects)}")


def unusable(rejects: Sequence[Reject]) -> str:
    """That nothing is left of some rows, with the first reasons."""
    first = list(dict.fromkeys(f"{reject.where}: {reject.reason}" for reject in rejects))[:SHOWN]
    return f"none of {len(rejects)} rows can be used; {'; '.join(first)}"


def _checked(item: Example | Reject | Notice | ReadAs) -> Example | Reject | Notice | ReadAs:
    """An example of a part that cannot be is a reject."""
    try:
        for name in item.paths if isinstance(item, Example) else ():
            part_of(name)
    except UserError as error:
        return Reject(name, item.where, str(error).removeprefix(f"{name}: "))
    return item


def _all(path: pathlib.Path, kind: str, root: pathlib.Path) -> Iterator[Example | Reject | Notice | ReadAs]:
    if kind == "auto":
        found = detect_format.of_folder(path, root, FILES) if path.is_dir() else detect_format.of_file(path, FILES)
        kind = found or kind
    if kind in FILES:
        yield from detect_format.described(kind, path, root, FILES[kind].examples(path, root))
        return
    reader = READERS.get(kind)
    for row in read_rows(path):
        if reader is None:
            reader = next(r for r in READERS.values() if r.matches(row))
        yield from reader.examples(row)


def home(path: pathlib.Path) -> pathlib.Path:
    """The folder of annotations: their own, that of their file, or the one above the first `*` or `{` of a pattern."""
    if path.is_dir():
        return path
    kept = [] if path.exists() else list(path.parts)
    first = next((n for n, part in enumerate(kept) if glob.has_magic(part) or "{" in part), None)
    return path.parent if first is None else pathlib.Path(*kept[:first])


def digest(path: pathlib.Path) -> str:
    """What changes with the annotations: of a snapshot of the hub its commit, of a pattern each tar's name and size."""
    if path.is_dir() and path.parent.name == "snapshots":  # more of it may be fetched later
        return hashlib.sha256(f"{path.parent.parent.name}@{path.name}".encode()).hexdigest()
    if path.exists():
        return shards.digest(path)
    lines = [f"{file.relative_to(home(path))} {file.stat().st_size} " for file in tars.matching(path)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
