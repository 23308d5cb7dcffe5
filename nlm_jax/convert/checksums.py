"""Checksums of a checkpoint: written with it, compared before it is used."""

import concurrent.futures
import hashlib
import json
import os
from collections.abc import Collection, Iterator
from typing import Any

from etils import epath

CHECKSUMS = "checksums.json"
META, PARAMS, OPT = "meta", "params", "opt"
"""Items of a checkpoint: its metadata, weights, counters and moments."""
STEP_FILE, COMMIT_FILE = "_CHECKPOINT_METADATA", "commit_success.txt"
"""Orbax writes its time into the first, and the second again, after everything else is in place."""
COMMITTED = "commit_timestamp_nsecs"
CHUNK, THREADS = 1 << 22, 8


def write_checksums(step: epath.Path) -> None:
    """Writes the size and digest of every file of a checkpoint into it, whole or not at all.

    Args:
      step: directory of the checkpoint, complete but for what Orbax writes when it commits.
    """
    names = [name for name in files(step) if name not in (CHECKSUMS, COMMIT_FILE)]
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        entries = dict(zip(names, pool.map(lambda name: entry(step, name), names), strict=True))
    entries[COMMIT_FILE] = step.name.partition(".")[0]
    (step / CHECKSUMS).write_text(json.dumps({"files": entries, "digest": seal(entries)}, indent=1))


def damage(step: os.PathLike | str, items: Collection[str] = (META, PARAMS, OPT)) -> str | None:
    """The error of a checkpoint, as "FILE is ...", or None.

    Of a checkpoint of a version without checksums, only its metadata is read; `saved.problem` does the rest.

    Args:
      step: its directory.
      items: those that will be read; the files of others are left out.
    """
    step = epath.Path(step)
    if not has_checksums(step):
        meta = read_json(step, f"{META}/metadata")
        if isinstance(meta, str):
            return meta if META in items else committed(step)
        return f"{CHECKSUMS} is missing" if meta.get("checksums") is True else committed(step)
    try:
        content = json.loads((step / CHECKSUMS).read_text())
        entries = content["files"]
        intact = seal(entries) == content["digest"]
    except (ValueError, TypeError, KeyError):
        intact = False
    if not intact:
        return f"{CHECKSUMS} does not hold what was written"
    names = [name for name in entries if name != COMMIT_FILE and ("/" not in name or name.split("/")[0] in items)]
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        faults = pool.map(lambda name: compare(step, name, entries[name]), names)
        wrong = next((text for text in faults if text), None)
    return wrong or committed(step, entries[COMMIT_FILE])


def is_complete(step: os.PathLike | str) -> bool:
    """Whether the save came to its end; in buckets it is written under its final name."""
    return any((epath.Path(step) / name).exists() for name in (COMMIT_FILE, CHECKSUMS))


def has_checksums(step: os.PathLike | str) -> bool:
    """Whether a checkpoint was saved with checksums."""
    return (epath.Path(step) / CHECKSUMS).exists()


# --- files ------------------------------------------------------------------------------------------------------------
def files(directory: epath.Path, prefix: str = "") -> Iterator[str]:
    """Names of all files below a directory, in order, with "/" between the parts."""
    for path in sorted(directory.iterdir(), key=lambda path: path.name):
        if path.is_dir():
            yield from files(path, f"{prefix}{path.name}/")
        else:
            yield f"{prefix}{path.name}"


def entry(step: epath.Path, name: str) -> list[Any]:
    """[bytes, digest] of a file. Of Orbax's own note about the step, the part that stays as it is."""
    if name == STEP_FILE:
        noted = json.loads((step / name).read_text())
        return [None, hashlib.sha256(json.dumps({**noted, COMMITTED: None}, sort_keys=True).encode()).hexdigest()]
    digest, size = hashlib.sha256(), 0
    with (step / name).open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return [size, digest.hexdigest()]


def read_json(step: epath.Path, name: str) -> dict[str, Any] | str:
    """A JSON object, or what is wrong with the file."""
    try:
        content = json.loads((step / name).read_text())
    except FileNotFoundError:
        return f"{name} is missing"
    except ValueError:
        return f"{name} is not JSON"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror or error})"
    return content if isinstance(content, dict) else f"{name} is not a JSON object"


def seal(entries: dict[str, Any]) -> str:
    """Digest of the list itself."""
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def compare(step: epath.Path, name: str, expected: list[Any]) -> str | None:
    """The error of one file, or None."""
    try:
        size, digest = entry(step, name)
    except (FileNotFoundError, NotADirectoryError):
        return f"{name} is missing"
    except (ValueError, TypeError):
        return f"{name} is not JSON"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror or error})"
    if size != expected[0]:
        return f"{name} has {size} bytes instead of {expected[0]}"
    return None if digest == expected[1] else f"{name} differs from what was written (checksum)"


def committed(step: epath.Path, name: str = "") -> str | None:
    """The error of the file that ends a save: a sentence with the path, which ends in `name`, the step."""
    try:
        text = (step / COMMIT_FILE).read_text()
    except FileNotFoundError:
        return f"{COMMIT_FILE} is missing"
    except ValueError:
        text = ""
    return (
        None if text.isprintable() and text and text.endswith(name) else f"{COMMIT_FILE} differs from what was written"
    )
