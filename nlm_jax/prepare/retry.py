"""The same command again: recordings that were rejected and can be used now, and the shards that this affects.

What is written again is what a fresh run would write, bit for bit; all other shards stay.
"""

import datetime
import hashlib
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from nlm_jax.audio import wave
from nlm_jax.core.files import printable
from nlm_jax.prepare import notes, resume, write_clips
from nlm_jax.prepare.annotations import Annotations
from nlm_jax.prepare.notes import Entry
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.write_clips import Recipe


def reading_digest(annotations: Annotations, paths: Iterable[str]) -> str:
    """Digest of what reading the annotations gave: the recordings, some of which may be new, and the rejected rows."""
    rejects = (f"{reject.name}\0{reject.where}\0{reject.reason}" for reject in annotations.report.rejects)
    text = "\n".join([*paths, "", *sorted(rejects)])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def count_changed(annotations: Annotations, recipe: Recipe, paths: Sequence[str], manifest: dict[str, Any]) -> int:
    """How many rejected recordings of a finished directory can be used now, or cannot for another reason.

    Args:
      annotations: of the run.
      recipe: how recordings are converted.
      paths: all recordings.
      manifest: of the finished directory.

    Returns:
      Their number; at least 1 if the annotations give other recordings or rejected rows than before.
    """
    if manifest["annotations"].get("read_sha256", "") not in ("", reading_digest(annotations, paths)):
        return 1
    if not manifest["rejected"]["clips"]:
        return 0
    original = {printable(path): path for path in paths}
    rejects = notes.rejects(annotations.options.out)
    return _count_changed(recipe, {original.get(name, name): reason for name, reason in rejects.items()})


def _count_changed(recipe: Recipe, rejects: dict[str, str]) -> int:
    """How many of the recordings `rejects` (name -> reason) are not rejected for that reason any more."""
    with wave.keeping_open():
        return sum(write_clips.convert(recipe, name).entry.get("reason") != reason for name, reason in rejects.items())


def describe_finished(options: PrepareOptions, manifest: dict[str, Any]) -> str:
    """The message about a finished directory that stays as it is."""
    date = datetime.datetime.fromtimestamp((options.out / "manifest.json").stat().st_mtime)
    count = manifest["rejected"]["clips"]
    retried = f"; rejected recordings were tried again and are as they were: {count}" if count else ""
    return f"{options.out}: was finished on {date:%Y-%m-%d %H:%M}{retried}; choose another --out to prepare it again"


def discard_stale(options: PrepareOptions, recipe: Recipe | None, paths: list[str]) -> None:
    """Deletes the notes of an interrupted run that this run would write differently.

    Args:
      options: of the run.
      recipe: how rejected recordings are tried again; None = they are not.
      paths: all recordings.
    """
    size, any_stale = options.shard_size, False
    for number, entries in _done_shards(options, paths):
        rejects = {entry["name"]: entry["reason"] for entry in entries if "reason" in entry}
        expected = paths[number * size : (number + 1) * size]
        if [entry["name"] for entry in entries] != expected or (recipe and _count_changed(recipe, rejects)):
            notes.discard(options.out, number)
            any_stale = True
    if any_stale:  # the held-out part is drawn again, which decides what clips are unused
        for number, entries in _done_shards(options, paths):
            if any("unused" in entry for entry in entries):
                notes.discard(options.out, number)


def _done_shards(options: PrepareOptions, paths: list[str]) -> Iterator[tuple[int, list[Entry]]]:
    """Yields number and entries of the shards that are done."""
    for number in range(-(-len(paths) // options.shard_size)):
        if notes.is_done(options.out, number):
            yield number, notes.read(options.out, number)["clips"]


def reopen(options: PrepareOptions, paths: list[str], manifest: dict[str, Any]) -> None:
    """Turns a finished directory into an interrupted one: shards that this run would write again in the same way get
    their notes back, and all other results are deleted.

    Args:
      options: of the run.
      paths: all recordings.
      manifest: of the finished directory.
    """
    out, size = options.out, options.shard_size
    rejects, words = notes.rejects(out), _fingerprints(options)
    (out / "work").mkdir(exist_ok=True)
    first_clip = 0
    for number, file in enumerate(sorted(out.glob("clips-*.arrayrecord"))):
        headers = notes.headers(out, number)
        entries = _entries(paths[number * size : (number + 1) * size], headers, rejects)
        if file.name in manifest["files"] and entries is not None:
            notes.write(out, number, entries, words[first_clip : first_clip + len(headers)])
        first_clip += len(headers)
    (out / "manifest.json").unlink()
    results: list[pathlib.Path] = [out / name for name in resume.RESULTS]
    for file in [*out.glob("examples-*.arrayrecord"), *(out / "index").iterdir(), *results]:
        file.unlink(missing_ok=True)
    for number, file in enumerate(sorted(out.glob("clips-*.arrayrecord"))):
        if not notes.note_file(out, number).is_file():
            file.unlink()


def _fingerprints(options: PrepareOptions) -> list[np.ndarray]:
    """The fingerprints of all clips of a finished directory, in order, u64[F] each."""
    index = options.out / "index"
    count = len(np.load(index / "clip_shard.npy"))
    if not options.fingerprints:
        return [notes.NO_WORDS] * count
    words, end = np.load(index / "fingerprint.npy"), np.load(index / "fingerprint_end.npy")
    return np.split(words, end)[:-1] if count else []


def _entries(paths: list[str], headers: list[Entry], rejects: dict[str, str]) -> list[Entry] | None:
    """The entries of a shard, from the headers of its clips and from rejects.jsonl.

    Args:
      paths: the recordings that this run would write to the shard.
      headers: of the clips in it.
      rejects: printable name -> reason.

    Returns:
      None if the shard has other clips, or clips of an earlier version.
    """
    entries, remaining = [], iter(headers)
    for path in paths:
        if (name := printable(path)) in rejects:
            entries.append({"name": path, "reason": rejects[name]})
            continue
        header = next(remaining, None)
        if header is None or header["name"] != name or "source_rate" not in header:
            return None
        entries.append({"name": path, **{key: header[key] for key in write_clips.NOTED if key in header}})
    return entries if next(remaining, None) is None else None
