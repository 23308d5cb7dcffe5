"""Subsets by taxon and task. Of the NatureLM training set, `annotations.jsonl` says which shards hold what is wanted,
so that no other one is read or fetched; of everything else the facts of each example decide."""

import difflib
import logging
import pathlib
from collections.abc import Iterable, Iterator, Sequence

from nlm_jax.core import arrow, hub
from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import RANKS, Example
from nlm_jax.prepare.readers import hf_rows, naturelm, naturelm_index, registry
from nlm_jax.prepare.rejects import Report

log = logging.getLogger(__name__)
NAMED = ("common_name", "scientific_name", *RANKS, "subspecies")
"""Facts whose values are taxa."""
SHOWN = 12
"""Names that a message lists at most."""


def located(source: pathlib.Path, taxa: Sequence[str] = (), tasks: Sequence[str] = ()) -> pathlib.Path:
    """`source`, or the folder into which the hub dataset of that id was fetched: of a subset its shards only.

    Raises:
      UserError: not to be had, or a taxon that the dataset's index does not have but resembles.
    """
    name = source.as_posix()
    if source.exists() or not hub.is_dataset_id(name) or source.suffix.lower() in registry.SUFFIXES:
        return source
    shards = None
    if (taxa or tasks) and (file := hub.download_dataset(name, [naturelm_index.NAME]) / naturelm_index.NAME).is_file():
        found = naturelm_index.look_up(file, taxa, tasks)
        for taxon in found.missing:
            if near := _near(taxon, found.names, 0.8):
                raise _unknown("taxon", taxon, name, near)
        shards = None if found.missing or not found.narrows else found.shards
    if shards is None:
        folder = hub.download_dataset(name, [*hub.TABLES, "*.json", "*.jsonl"])
        return folder if arrow.files(folder) else hub.download_dataset(name, None)
    listed = hub.dataset_files(name)
    wanted = naturelm_index.patterns(shards) if listed is None else _files(listed, shards)
    folder = hub.download_dataset(name, [naturelm_index.NAME, "*dataset_info.json", *wanted]) if wanted else None
    return folder if folder is not None and hf_rows.files(folder) else hub.download_dataset(name, None)


def _files(listed: Sequence[str], shards: frozenset[str]) -> list[str]:
    """The shards among the files of a hub dataset: tables, or folders of recordings with their metadata."""
    held = [file for file in listed if file.endswith((".parquet", ".arrow"))]
    if held:
        return [file for file in held if naturelm_index.holds(file, shards)]
    return [file for file in listed if naturelm_index.holds(file.rpartition("/")[0], shards)]


def read(
    path: pathlib.Path,
    kind: str = "auto",
    split: str | None = None,
    root: pathlib.Path | None = None,
    taxa: Sequence[str] = (),
    tasks: Sequence[str] = (),
    report: Report | None = None,
) -> Iterator[Example]:
    """`corpora.read` of the examples that have one of `taxa` (any rank or common name) and one of `tasks` (patterns).

    Raises:
      UserError: a taxon or a pattern that no example fits, with what comes close; otherwise as `corpora.read`.
    """
    if not taxa and not tasks:
        return registry.read(path, kind, split, root, report)
    chosen = _indexed(path, kind, root or registry.home(path), taxa, tasks, report)
    return (example for example in chosen if split in (None, example.split))


def _indexed(path, kind, root, taxa, tasks, report) -> Iterator[Example]:
    """The chosen examples, by way of the index where there is one that tells."""
    folder = naturelm.folder(path)
    file = (folder if folder.is_dir() else folder.parent) / naturelm_index.NAME
    if kind not in ("auto", "naturelm") or not file.is_file() or not naturelm.opens(path):
        yield from chosen(registry.read(path, kind, None, root, report), path, taxa, tasks)
        return
    found = naturelm_index.look_up(file, taxa, tasks)
    if found.missing or not found.narrows:  # a rank that the index leaves out, such as the class
        yield from chosen(registry.read(path, kind, None, root, report), path, found.missing, tasks, found)
        return

    def kept(part: pathlib.Path) -> bool:
        return naturelm_index.holds(part.relative_to(file.parent).as_posix(), found.shards)

    met = 0
    for keep in (kept, lambda part: not kept(part)):  # the others only if shards are numbered in some other way
        if not met:
            for example in chosen(naturelm.examples(path, root, keep, found.has), path, (), tasks):
                met += 1
                yield example
    if not met:
        raise UserError(
            f"{path}: {naturelm_index.NAME} names {len(found.ids)} recordings that are not in it; fetch their shards"
        )


def chosen(
    examples: Iterable[Example],
    path: pathlib.Path,
    taxa: Sequence[str],
    tasks: Sequence[str],
    found: naturelm_index.Found | None = None,
) -> Iterator[Example]:
    """The examples with one of `taxa` in their facts (or as their label) and one of `tasks`; none given = every one.
    Those that an index has `found` for further taxa belong to them.

    Raises:
      UserError: at the end, where nothing has a taxon, a task, or both.
    """
    wanted = {taxon.strip().lower(): taxon for taxon in taxa}
    names, kinds, met, fitted, count = set(found.names if found else ()), set(), set(), set(), 0
    for example in examples:
        mine = taxa_of(example)
        names |= mine
        kinds.add(example.task)
        hit = {name.lower() for name in mine} & wanted.keys()
        fit = {pattern for pattern in tasks if naturelm_index.fits(example.task, (pattern,))}
        met, fitted = met | hit, fitted | fit
        listed = found is not None and found.has(example.id)
        if (hit or listed or not wanted) and (fit or not tasks):
            count += 1
            yield example
    for name, taxon in wanted.items():
        if name not in met and kinds:
            raise _unknown("taxon", taxon, path, _near(taxon, names, 0.6) or sorted(names)[:SHOWN])
    for pattern in tasks:
        if pattern not in fitted and kinds:
            raise _unknown("task", pattern, path, _near(pattern, kinds, 0.6) or sorted(kinds)[:SHOWN])
    if kinds and not count:
        raise UserError(f"{path}: nothing of taxon {', '.join(taxa)} has a task {', '.join(tasks)}")


def taxa_of(example: Example) -> set[str]:
    """Names of taxa that an example bears: every rank, the common name, or its label."""
    found = {example.facts[name] for name in NAMED if example.facts.get(name)}
    if full := example.facts.get("scientific_name"):
        found |= {full.split()[0], " ".join(full.split()[:2])}
    return found | ({example.label} if example.label and not found else set())


def _near(name: str, names: Iterable[str], cutoff: float) -> list[str]:
    lower = {known.lower(): known for known in sorted(names)}
    return [lower[near] for near in difflib.get_close_matches(name.strip().lower(), lower, 5, cutoff)]


def _unknown(flag: str, value: str, where: object, names: Sequence[str]) -> UserError:
    return UserError(f"--{flag} {value!r}: nothing in {where} has it; close to it: {', '.join(names) or 'nothing'}")
