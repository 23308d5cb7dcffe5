"""`annotations.jsonl` of the NatureLM training set: of every id its shard and its taxonomy, in a few gigabytes of text
where the recordings are terabytes. It is read line by line; what is kept of an id is eight bytes."""

import array
import dataclasses
import fnmatch
import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt64

from nlm_jax.core.errors import UserError

NAME = "annotations.jsonl"
NOT_TAXA = {"id", "shard_id", "task", "source", "source_dataset", "license", "file_name", "split"}
"""Fields that name no taxon."""


@dataclasses.dataclass(frozen=True)
class Found:
    """What the index knows of some taxa and tasks."""

    ids: UInt64[np.ndarray, "N"]
    """Digests of the ids that are wanted, sorted."""
    shards: frozenset[str]
    """Shards that hold them."""
    missing: tuple[str, ...]
    """Taxa that the index does not have."""
    names: frozenset[str]
    """Every taxon that it has; filled where some are missing."""
    narrows: bool
    """Whether it could tell at all: it may have no tasks."""

    def has(self, ident: str) -> bool:
        """Whether an id is wanted."""
        at = int(np.searchsorted(self.ids, digest(ident)))
        return at < len(self.ids) and int(self.ids[at]) == digest(ident)


def look_up(file: pathlib.Path, taxa: Sequence[str], tasks: Sequence[str]) -> Found:
    """The ids, and their shards, that have one of `taxa` and one of `tasks` (patterns); without any of either, all.

    Raises:
      UserError: a line that is no JSON object with id and shard_id.
    """
    return _look_up(file, file.stat().st_mtime_ns, tuple(taxa), tuple(tasks))


@functools.lru_cache(4)
def _look_up(file: pathlib.Path, changed: int, taxa: tuple[str, ...], tasks: tuple[str, ...]) -> Found:
    wanted = {taxon.strip().lower() for taxon in taxa}
    ids, shards, met, told = array.array("Q"), set(), set(), bool(taxa)
    # Most lines are passed over without parsing them, by the last word of each taxon: a species may stand apart from
    # its genus, and JSON may write letters that are not ASCII in two ways.
    needles = tuple(json.dumps(taxon.split()[-1])[1:-1] for taxon in wanted if taxon)
    for row in _rows(file, needles if "".join(wanted).isascii() and "" not in wanted else ()):
        hit = wanted & {name.lower() for name in taxa_of(row)}
        told = told or "task" in row
        met |= hit
        if (hit or not wanted) and ("task" not in row or fits(str(row["task"]), tasks)):
            ids.append(digest(str(row["id"])))
            shards.add(shard(row["shard_id"]))
    missing = tuple(taxon for taxon in taxa if taxon.strip().lower() not in met)
    names = _names(file) if missing else frozenset()
    return Found(np.unique(np.fromiter(ids, np.uint64, len(ids))), frozenset(shards), missing, names, told)


def _names(file: pathlib.Path) -> frozenset[str]:
    seen, names = set(), set()
    for row in _rows(file):
        key = tuple(value for name, value in row.items() if name not in NOT_TAXA and isinstance(value, str))
        if key not in seen:  # many recordings share a species
            seen.add(key)
            names |= taxa_of(row)
    return frozenset(names)


def _rows(file: pathlib.Path, needles: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """The rows, of those that hold one of `needles` if any are given."""
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip() or (needles and not any(needle in line.lower() for needle in needles)):
                continue
            try:
                row = json.loads(line)
                row["id"], row["shard_id"]
            except json.JSONDecodeError as error:
                raise UserError(f"{file}:{number}: not valid JSON ({error.msg} at column {error.colno})") from error
            except (KeyError, TypeError, IndexError):
                raise UserError(f"{file}:{number}: expected an object with id and shard_id") from None
            yield row


def taxa_of(row: dict[str, Any]) -> set[str]:
    """Names of every rank in a row, and the common one; a species with its genus where the two are apart."""
    found = {v.strip() for k, v in row.items() if k not in NOT_TAXA and isinstance(v, str) and v.strip()}
    genus, species = row.get("genus"), row.get("species")
    if isinstance(genus, str) and isinstance(species, str) and genus and species and " " not in species.strip():
        found.add(f"{genus.strip()} {species.strip()}")
    return found


def fits(task: str, patterns: Sequence[str]) -> bool:
    """Whether a task fits one of the patterns, without regard to capitals; every task fits none at all."""
    return not patterns or any(fnmatch.fnmatchcase(task.lower(), pattern.lower()) for pattern in patterns)


def digest(ident: str) -> int:
    """Eight bytes that stand for an id."""
    return int.from_bytes(hashlib.blake2b(ident.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def shard(value: Any) -> str:
    """A shard's id as text; numbers without zeros in front."""
    text = str(value).strip()
    return str(int(text)) if text.isdigit() else text


def holds(file: str, shards: frozenset[str]) -> bool:
    """Whether a file is one of the shards: by its number (`train-00042-of-10577.parquet`), its name or its folder's."""
    path = pathlib.PurePosixPath(file)
    if {file, path.name, path.stem, *path.parts[:-1]} & shards:
        return True
    for part in (path.stem, *reversed(path.parts[:-1])):
        if numbers := re.findall(r"\d+", re.sub(r"-of-\d+.*", "", part)):
            return str(int(numbers[-1])) in shards
    return False


def patterns(shards: frozenset[str]) -> list[str]:
    """Patterns of the files that may be one of the shards, for a hub that does not list its files."""
    found = {f"*{name}*" for name in shards if not name.isdigit()}
    found |= {f"*[!0-9]{int(n):0{w}d}[!0-9]*" for n in shards if n.isdigit() for w in (1, 3, 4, 5, 6)}
    return sorted(found)
