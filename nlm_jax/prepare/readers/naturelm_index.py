"""`annotations.jsonl` of the NatureLM training set: the shard and the taxonomy of every id, in a few gigabytes of text
for terabytes of recordings. It is read line by line; of an id eight bytes are kept.

    {"id": "x1", "shard_id": 42, "family": "Strigidae", "genus": "Strix", "species": "aluco"}
    look_up(file, ["Strigidae"], [])   ->   ids {x1}, shards {"42"}: read train-00042-of-10577.parquet alone
"""

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
"""Fields without a taxon."""


@dataclasses.dataclass(frozen=True)
class IndexMatch:
    """Entries of the index for some taxa and tasks."""

    ids: UInt64[np.ndarray, "N"]
    """Digests of the matching ids, sorted."""
    shards: frozenset[str]
    """Their shards."""
    missing: tuple[str, ...]
    """Taxa that the index does not have."""
    names: frozenset[str]
    """Every taxon that it has; filled only if some are missing."""
    decides: bool
    """Whether the index could select anything: not by tasks if it has none."""

    def has(self, ident: str) -> bool:
        """Whether an id matches."""
        at = int(np.searchsorted(self.ids, digest(ident)))
        return at < len(self.ids) and int(self.ids[at]) == digest(ident)


def look_up(file: pathlib.Path, taxa: Sequence[str], tasks: Sequence[str]) -> IndexMatch:
    """The ids, and their shards, that have one of the taxa and one of the tasks.

    Args:
      file: the index.
      taxa: names of any rank or common names; none match all.
      tasks: patterns; none match all.

    Raises:
      UserError: a line that is not a JSON object with id and shard_id.
    """
    return _look_up(file, file.stat().st_mtime_ns, tuple(taxa), tuple(tasks))


@functools.lru_cache(4)
def _look_up(file: pathlib.Path, modified: int, taxa: tuple[str, ...], tasks: tuple[str, ...]) -> IndexMatch:
    names = {taxon.strip().lower() for taxon in taxa}
    ids, shards, matched, decides = array.array("Q"), set(), set(), bool(taxa)
    for row in _rows(file, _needles(names)):
        hit = names & {name.lower() for name in taxa_of(row)}
        decides = decides or "task" in row
        matched |= hit
        if (hit or not names) and ("task" not in row or fits(str(row["task"]), tasks)):
            ids.append(digest(str(row["id"])))
            shards.add(shard_name(row["shard_id"]))
    missing = tuple(taxon for taxon in taxa if taxon.strip().lower() not in matched)
    every = _all_taxa(file) if missing else frozenset()
    return IndexMatch(np.unique(np.fromiter(ids, np.uint64, len(ids))), frozenset(shards), missing, every, decides)


def _needles(names: set[str]) -> tuple[str, ...]:
    """Text of which a line must contain some to have one of the taxa, so that most lines need no parsing.

    It is the last word of each: a species may be separate from its genus. None if a name is not ASCII, which JSON may
    write in two ways.
    """
    if "" in names or not "".join(names).isascii():
        return ()
    return tuple(json.dumps(name.split()[-1])[1:-1] for name in names)


def _all_taxa(file: pathlib.Path) -> frozenset[str]:
    seen, names = set(), set()
    for row in _rows(file):
        key = tuple(value for name, value in row.items() if name not in NOT_TAXA and isinstance(value, str))
        if key not in seen:  # many recordings share a species
            seen.add(key)
            names |= taxa_of(row)
    return frozenset(names)


def _rows(file: pathlib.Path, needles: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """The rows; if needles are given, those that contain one."""
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
    """Names of every rank in a row, and the common one; a species with its genus if these are separate fields."""
    names = {v.strip() for k, v in row.items() if k not in NOT_TAXA and isinstance(v, str) and v.strip()}
    genus, species = row.get("genus"), row.get("species")
    if isinstance(genus, str) and isinstance(species, str) and genus and species and " " not in species.strip():
        names.add(f"{genus.strip()} {species.strip()}")
    return names


def fits(task: str, patterns: Sequence[str]) -> bool:
    """Whether a task matches one of the patterns, in any case; True if there are no patterns."""
    return not patterns or any(fnmatch.fnmatchcase(task.lower(), pattern.lower()) for pattern in patterns)


def digest(ident: str) -> int:
    """A digest of 8 bytes of an id."""
    return int.from_bytes(hashlib.blake2b(ident.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def shard_name(value: Any) -> str:
    """The id of a shard as text; numbers without leading zeros."""
    text = str(value).strip()
    return str(int(text)) if text.isdigit() else text


def is_shard(file: str, shards: frozenset[str]) -> bool:
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
    named = {f"*{name}*" for name in shards if not name.isdigit()}
    numbers = (int(name) for name in shards if name.isdigit())
    return sorted(named | {f"*[!0-9]{n:0{width}d}[!0-9]*" for n in numbers for width in (1, 3, 4, 5, 6)})
