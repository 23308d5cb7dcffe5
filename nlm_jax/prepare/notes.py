"""The note of each shard of clips, in `work/`: what became of its recordings. A shard with a note is complete."""

import json
import pathlib
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from nlm_jax.core.files import write_json
from nlm_jax.data import shards
from nlm_jax.data.schema import file_of

NO_WORDS = np.zeros(0, np.uint64)
"""The fingerprint of a recording without clip."""
VERSION = 2
"""Shards whose notes have another version are converted again: earlier ones lack fields that the manifest needs."""
RECORDING = "recording"
"""`kind` in rejects.jsonl of recordings, which may become usable without a change of the annotations."""
Entry = dict[str, Any]
"""One recording of a note: its `name` with a `reason` (it cannot be used), with `unused` (no example needs it), or with
`write_clips.NOTED` of its clip."""


def note_file(out: pathlib.Path, number: int) -> pathlib.Path:
    """The note of a shard, which may not exist yet."""
    return out / "work" / f"{number:05d}.json"


def fingerprint_file(out: pathlib.Path, number: int) -> pathlib.Path:
    """The fingerprints of a shard: `words` u64[F] of all clips, and `end`, the frames up to the end of each."""
    return note_file(out, number).with_suffix(".npz")


def is_done(out: pathlib.Path, number: int) -> bool:
    """Whether a shard has a note of this version."""
    return note_file(out, number).is_file() and read(out, number).get("version") == VERSION


def read(out: pathlib.Path, number: int) -> dict[str, Any]:
    """The note of a shard that has one: `version`, `file`, `sha256`, `bytes` and `clips` (entries, in order)."""
    return json.loads(note_file(out, number).read_text(encoding="utf-8"))


def write(out: pathlib.Path, number: int, entries: list[Entry], words: list[np.ndarray]) -> None:
    """Writes the fingerprints of a shard's clips, then its note, which completes it.

    Args:
      out: the prepared directory.
      number: of the shard, whose records are written already.
      entries: one per recording.
      words: one fingerprint u64[F] per clip.
    """
    file = shards.shard_path(out, "clips", number)
    end = np.cumsum([len(clip) for clip in words], dtype=np.int64)
    np.savez(fingerprint_file(out, number), words=np.concatenate([NO_WORDS, *words]), end=end)
    sizes = {"sha256": shards.file_digest(file), "bytes": file.stat().st_size}
    write_json(note_file(out, number), {"version": VERSION, "file": file.name, **sizes, "clips": entries})


def discard(out: pathlib.Path, number: int) -> None:
    """Deletes a note, so that its shard is written again."""
    note_file(out, number).unlink(missing_ok=True)


def entries_with_clip(entries: list[Entry]) -> list[Entry]:
    """The entries that have a record in the shard, in its order."""
    return [entry for entry in entries if "samples" in entry]


def rejected(out: pathlib.Path, count: int) -> dict[str, str]:
    """Recordings of the first `count` shards that cannot be used -> the reason."""
    entries = (entry for number in range(count) for entry in read(out, number)["clips"])
    return {entry["name"]: entry["reason"] for entry in entries if "reason" in entry}


def rejects(out: pathlib.Path) -> dict[str, str]:
    """Recordings that a finished directory lists in rejects.jsonl -> the reason."""
    file = out / "rejects.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    entries = (json.loads(line) for line in lines if line.strip())
    return {entry["file"]: entry["reason"] for entry in entries if entry.get("kind") == RECORDING}


def copies(out: pathlib.Path, count: int) -> dict[str, str]:
    """Recordings of the first `count` shards -> the first recording by name with the same samples."""
    clips: dict[str, list[str]] = {}
    for number in range(count):
        for entry in read(out, number)["clips"]:
            if "sha256" in entry:
                clips.setdefault(file_of(entry["name"]), []).append(entry["sha256"])
    first: dict[tuple[str, ...], str] = {}
    return {name: first.setdefault(tuple(digests), name) for name, digests in sorted(clips.items())}


def headers(out: pathlib.Path, number: int) -> list[Entry]:
    """The headers of the clips of a shard."""
    file = shards.shard_path(out, "clips", number)
    shard = shards.Shard(shards.open_shard(file), file)
    return [shards.clip_header(shards.read_record(shard, k))[0] for k in range(shard.reader.num_records())]


def fingerprints(out: pathlib.Path, number: int) -> list[np.ndarray]:
    """The fingerprints of the clips of a shard, u64[F] each."""
    with np.load(fingerprint_file(out, number)) as saved:
        return np.split(saved["words"], saved["end"])[:-1]


def remove_unused(out: pathlib.Path, count: int, needed: Collection[str]) -> None:
    """Removes the clips that no example needs from the first `count` shards.

    Args:
      out: the prepared directory; shards that are only in a bucket keep their clips.
      count: number of shards.
      needed: recordings of examples.
    """
    for number in range(count):
        entries, file = read(out, number)["clips"], shards.shard_path(out, "clips", number)
        if file.is_file() and any(entry["name"] not in needed for entry in entries_with_clip(entries)):
            _rewrite(out, number, entries, needed)


def _rewrite(out: pathlib.Path, number: int, entries: list[Entry], needed: Collection[str]) -> None:
    """Writes a shard again with the clips of `needed` only."""
    words = fingerprints(out, number)
    numbers = [k for k, entry in enumerate(entries_with_clip(entries)) if entry["name"] in needed]
    file = shards.shard_path(out, "clips", number)
    shard = shards.Shard(shards.open_shard(file), file)
    records: Iterator[bytes] = (shards.read_record(shard, k) for k in numbers)
    part = file.with_name(f"{file.name}.kept")
    shards.write_records(part, records, shards.CLIP_OPTIONS)
    discard(out, number)  # a shard whose rewriting is interrupted here is converted again
    part.replace(file)
    remaining = [e if "samples" not in e or e["name"] in needed else _unused(e) for e in entries]
    write(out, number, remaining, [words[k] for k in numbers])


def _unused(entry: Entry) -> Entry:
    """The entry of a removed clip: the digest still identifies recordings that are copies of each other."""
    return {"name": entry["name"], "unused": True, "sha256": entry["sha256"]}
