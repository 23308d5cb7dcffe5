"""Subsets by taxon and task. For the NatureLM training set, `annotations.jsonl` tells which shards contain them, so
that no other is read or downloaded; for other annotations the facts of each example decide."""

import dataclasses
import difflib
import pathlib
from collections.abc import Iterable, Iterator, Sequence

from nlm_jax.core import arrow, hub
from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import RANKS, Example
from nlm_jax.prepare.readers import hf_rows, naturelm, naturelm_index, registry
from nlm_jax.prepare.readers.naturelm_index import IndexMatch
from nlm_jax.prepare.rejects import Report

TAXON_FACTS = ("common_name", "scientific_name", *RANKS, "subspecies")
"""Facts whose values are taxa."""
MAX_NAMES = 12
"""Names in one message."""


# --- Download ---


def fetch(source: pathlib.Path, taxa: Sequence[str] = (), tasks: Sequence[str] = ()) -> pathlib.Path:
    """The folder of annotations; a dataset of the hub is downloaded, of a subset only its shards.

    Args:
      source: a path, or the id of a dataset.
      taxa: names of any rank or common names; none select all.
      tasks: patterns; none select all.

    Returns:
      `source` if it exists, else the folder of the download.

    Raises:
      UserError: the dataset could not be downloaded, or its index lacks a taxon but has a similar one.
    """
    name = source.as_posix()
    if source.exists() or not hub.is_dataset_id(name) or source.suffix.lower() in registry.SUFFIXES:
        return source
    shards = _needed_shards(name, taxa, tasks) if taxa or tasks else None
    if shards is None:
        folder = hub.download_dataset(name, [*hub.TABLES, "*.json", "*.jsonl"])
        return folder if arrow.files(folder) else hub.download_dataset(name, None)
    files = hub.dataset_files(name)
    patterns = naturelm_index.patterns(shards) if files is None else _shard_files(files, shards)
    if patterns:
        folder = hub.download_dataset(name, [naturelm_index.NAME, "*dataset_info.json", *patterns])
        if hf_rows.files(folder):
            return folder
    return hub.download_dataset(name, None)


def _needed_shards(name: str, taxa: Sequence[str], tasks: Sequence[str]) -> frozenset[str] | None:
    """The shards of a hub dataset with some taxa and tasks; None if it has no index, or the index does not tell."""
    file = hub.download_dataset(name, [naturelm_index.NAME]) / naturelm_index.NAME
    if not file.is_file():
        return None
    match = naturelm_index.look_up(file, taxa, tasks)
    for taxon in match.missing:
        if similar := _similar(taxon, match.names, 0.8):
            raise _no_match("taxon", taxon, name, similar)
    return match.shards if match.decides and not match.missing else None


def _shard_files(files: Sequence[str], shards: frozenset[str]) -> list[str]:
    """The shards among the files of a hub dataset: tables, or folders of recordings with their metadata."""
    tables = [file for file in files if file.endswith((".parquet", ".arrow"))]
    if tables:
        return [file for file in tables if naturelm_index.is_shard(file, shards)]
    return [file for file in files if naturelm_index.is_shard(file.rpartition("/")[0], shards)]


# --- Selection ---


def read(
    path: pathlib.Path,
    format: str = "auto",
    split: str | None = None,
    root: pathlib.Path | None = None,
    taxa: Sequence[str] = (),
    tasks: Sequence[str] = (),
    report: Report | None = None,
) -> Iterator[Example]:
    """`registry.read` of the examples with one of the taxa and one of the tasks.

    Args:
      path: the annotations.
      format: one of `registry.FORMATS`.
      split: keep the examples of this split; None keeps all.
      root: folder of relative audio paths; None: `registry.default_root`.
      taxa: names of any rank or common names; none select all.
      tasks: patterns; none select all.
      report: takes rejects and notices.

    Raises:
      UserError: a taxon or a pattern that no example has, with similar ones; otherwise as `registry.read`.
    """
    if not taxa and not tasks:
        return registry.read(path, format, split, root, report)
    examples = _selected(path, format, root or registry.default_root(path), taxa, tasks, report)
    return (example for example in examples if split in (None, example.split))


def _selected(
    path: pathlib.Path,
    format: str,
    root: pathlib.Path,
    taxa: Sequence[str],
    tasks: Sequence[str],
    report: Report | None,
) -> Iterator[Example]:
    """The examples, from the shards that an index names if there is one, else from all."""
    folder = naturelm.dataset_folder(path)
    index = (folder if folder.is_dir() else folder.parent) / naturelm_index.NAME
    if format not in ("auto", "naturelm") or not index.is_file() or not naturelm.opens(path):
        yield from select(registry.read(path, format, None, root, report), path, taxa, tasks)
        return
    match = naturelm_index.look_up(index, taxa, tasks)
    if match.missing or not match.decides:  # a rank that the index leaves out, such as the class
        yield from select(registry.read(path, format, None, root, report), path, match.missing, tasks, match)
        return

    def in_shards(file: pathlib.Path) -> bool:
        return naturelm_index.is_shard(file.relative_to(index.parent).as_posix(), match.shards)

    count = 0
    for keep_file in (in_shards, lambda file: not in_shards(file)):  # the others if shards are numbered differently
        if not count:
            for example in select(naturelm.examples(path, root, keep_file, match.has), path, (), tasks):
                count += 1
                yield example
    if not count:
        raise UserError(
            f"{path}: {naturelm_index.NAME} names {len(match.ids)} recordings that are not in it; fetch their shards"
        )


def select(
    examples: Iterable[Example],
    path: pathlib.Path,
    taxa: Sequence[str],
    tasks: Sequence[str],
    match: IndexMatch | None = None,
) -> Iterator[Example]:
    """The examples with one of the taxa in their facts (or as their label) and one of the tasks.

    Args:
      examples: of the annotations.
      path: the annotations, for messages.
      taxa: names of any rank or common names; none select all.
      tasks: patterns; none select all.
      match: what an index has of further taxa, whose examples are selected as well.

    Raises:
      UserError: at the end, if no example has a taxon, a task, or both.
    """
    by_name = {taxon.strip().lower(): taxon for taxon in taxa}
    seen = _Seen(taxa=set(match.names) if match else set())
    any_selected = False
    for example in examples:
        names = taxa_of(example)
        hit = {name.lower() for name in names} & by_name.keys()
        fit = {pattern for pattern in tasks if naturelm_index.fits(example.task, (pattern,))}
        seen.add(names, example.task, hit, fit)
        in_index = match is not None and match.has(example.id)
        if (hit or in_index or not by_name) and (fit or not tasks):
            any_selected = True
            yield example
    if seen.tasks:
        _check_all_matched(path, by_name, tasks, seen)
        if not any_selected:
            raise UserError(f"{path}: nothing of taxon {', '.join(taxa)} has a task {', '.join(tasks)}")


@dataclasses.dataclass
class _Seen:
    """Taxa and tasks of the examples so far, and what of the selection matched some."""

    taxa: set[str] = dataclasses.field(default_factory=set)
    tasks: set[str] = dataclasses.field(default_factory=set)
    matched_taxa: set[str] = dataclasses.field(default_factory=set)
    matched_patterns: set[str] = dataclasses.field(default_factory=set)

    def add(self, taxa: set[str], task: str, matched_taxa: set[str], matched_patterns: set[str]) -> None:
        self.taxa |= taxa
        self.tasks.add(task)
        self.matched_taxa |= matched_taxa
        self.matched_patterns |= matched_patterns


def _check_all_matched(path: pathlib.Path, by_name: dict[str, str], tasks: Sequence[str], seen: _Seen) -> None:
    """Raises UserError for a taxon or pattern that no example has, with similar ones or the first of all."""
    for name, taxon in by_name.items():
        if name not in seen.matched_taxa:
            raise _no_match("taxon", taxon, path, _similar(taxon, seen.taxa, 0.6) or sorted(seen.taxa)[:MAX_NAMES])
    for pattern in tasks:
        if pattern not in seen.matched_patterns:
            raise _no_match("task", pattern, path, _similar(pattern, seen.tasks, 0.6) or sorted(seen.tasks)[:MAX_NAMES])


def taxa_of(example: Example) -> set[str]:
    """The taxa of an example: every rank and the common name, or its label if it has none of these."""
    taxa = {example.facts[name] for name in TAXON_FACTS if example.facts.get(name)}
    if full := example.facts.get("scientific_name"):
        taxa |= {full.split()[0], " ".join(full.split()[:2])}
    return taxa or ({example.label} if example.label else set())


def _similar(name: str, names: Iterable[str], cutoff: float) -> list[str]:
    by_lower = {other.lower(): other for other in sorted(names)}
    return [by_lower[lower] for lower in difflib.get_close_matches(name.strip().lower(), by_lower, 5, cutoff)]


def _no_match(flag: str, value: str, where: object, names: Sequence[str]) -> UserError:
    return UserError(f"--{flag} {value!r}: nothing in {where} has it; close to it: {', '.join(names) or 'nothing'}")
