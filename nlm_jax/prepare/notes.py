"""The notes beside the shards of clips: what became of each recording. With its note a shard is done."""

import json
import pathlib
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from nlm_jax.core.files import write_json
from nlm_jax.data import shards
from nlm_jax.data.schema import file_of

NO_WORDS = np.zeros(0, np.uint64)
"""The fingerprint of nothing."""
VERSION = 2
"""Shards whose notes have another version are converted again: earlier ones lack what the manifest needs."""
RECORDING = "recording"
"""`kind` in rejects.jsonl of what may be of use another time without a change of the annotations."""
Entry = dict[str, Any]
"""Of a recording: its `name` with `reason` (it cannot be used), `unused` (no example needs it), or what its clip is."""


def note(out: pathlib.Path, number: int) -> pathlib.Path:
    """The note of a shard, which need not be there."""
    return out / "work" / f"{number:05d}.json"


def is_done(out: pathlib.Path, number: int) -> bool:
    """Whether a shard has a note of this version."""
    return note(out, number).is_file() and read(out, number).get("version") == VERSION


def read(out: pathlib.Path, number: int) -> dict[str, Any]:
    """`version`, `file`, `sha256`, `bytes` and `clips` (entries, in order) of a shard that has a note."""
    return json.loads(note(out, number).read_text(encoding="utf-8"))


def write(out: pathlib.Path, number: int, entries: list[Entry], words: list[np.ndarray]) -> None:
    """Writes the note of a shard whose records are there, last of all, and the fingerprints u64[F] of its clips."""
    file = shards.shard_path(out, "clips", number)
    end = np.cumsum([len(print_) for print_ in words], dtype=np.int64)
    np.savez(note(out, number).with_suffix(".npz"), words=np.concatenate([NO_WORDS, *words]), end=end)
    sizes = {"sha256": shards.file_digest(file), "bytes": file.stat().st_size}
    content = {"version": VERSION, "file": file.name, **sizes, "clips": entries}
    write_json(note(out, number), content)


def discard(out: pathlib.Path, number: int) -> None:
    """Takes a note away, so that its shard is made again."""
    note(out, number).unlink(missing_ok=True)


def stored(entries: list[Entry]) -> list[Entry]:
    """The entries that have a record in the shard."""
    return [entry for entry in entries if "samples" in entry]


def rejected(out: pathlib.Path, count: int) -> dict[str, str]:
    """Recordings of the first `count` shards that cannot be used, with the reason."""
    every = (entry for number in range(count) for entry in read(out, number)["clips"])
    return {entry["name"]: entry["reason"] for entry in every if "reason" in entry}


def copies(out: pathlib.Path, count: int) -> dict[str, str]:
    """Recordings of the first `count` shards with the same samples as another one -> that one."""
    clips: dict[str, list[str]] = {}
    for number in range(count):
        for entry in read(out, number)["clips"]:
            if "sha256" in entry:
                clips.setdefault(file_of(entry["name"]), []).append(entry["sha256"])
    first: dict[tuple[str, ...], str] = {}
    return {name: first.setdefault(tuple(digests), name) for name, digests in sorted(clips.items())}


def rejects(out: pathlib.Path) -> dict[str, str]:
    """The same of a finished directory."""
    file = out / "rejects.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    entries = (json.loads(line) for line in lines if line.strip())
    return {entry["file"]: entry["reason"] for entry in entries if entry.get("kind") == RECORDING}


def headers(out: pathlib.Path, number: int) -> list[Entry]:
    """The headers of the clips of a shard."""
    file = shards.shard_path(out, "clips", number)
    opened = shards.Shard(shards.open_shard(file), file)
    return [shards.clip_header(shards.read_record(opened, k))[0] for k in range(opened.reader.num_records())]


def keep(out: pathlib.Path, count: int, needed: Collection[str]) -> None:
    """Takes clips that no example needs out of the first `count` shards. Shards that are elsewhere stay as they are."""
    for number in range(count):
        entries, file = read(out, number)["clips"], shards.shard_path(out, "clips", number)
        if file.is_file() and any(entry["name"] not in needed for entry in stored(entries)):
            _keep(out, number, entries, needed)


def _keep(out: pathlib.Path, number: int, entries: list[Entry], needed: Collection[str]) -> None:
    words, places = fingerprints(out, number), [k for k, e in enumerate(stored(entries)) if e["name"] in needed]
    file = shards.shard_path(out, "clips", number)
    opened = shards.Shard(shards.open_shard(file), file)
    records: Iterator[bytes] = (shards.read_record(opened, k) for k in places)
    part = file.with_name(f"{file.name}.kept")
    shards.write_records(part, records, shards.CLIP_OPTIONS)
    discard(out, number)  # what is interrupted here is made again
    part.replace(file)
    fewer = [e if "samples" not in e or e["name"] in needed else _unused(e) for e in entries]
    write(out, number, fewer, [words[k] for k in places])


def _unused(entry: Entry) -> Entry:
    """Of a clip that is taken out: its samples still say which recordings are copies."""
    return {"name": entry["name"], "unused": True, "sha256": entry["sha256"]}


def fingerprints(out: pathlib.Path, number: int) -> list[np.ndarray]:
    """Those of the clips of a shard, u64[F] each."""
    with np.load(note(out, number).with_suffix(".npz")) as saved:
        return np.split(saved["words"], saved["end"])[:-1]
