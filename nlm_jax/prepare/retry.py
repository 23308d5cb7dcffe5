"""The same command again: recordings that were rejected and can be used now, and the shards for which that matters.

What is made again is what a fresh run would make, bit for bit; every other shard stays.
"""

import datetime
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from nlm_jax.audio import wave
from nlm_jax.core.files import printable
from nlm_jax.prepare import notes, write_clips
from nlm_jax.prepare.notes import Entry
from nlm_jax.prepare.options import Options
from nlm_jax.prepare.write_clips import Recipe


def reading(options: Options, paths: Iterable[str]) -> str:
    """Digest of what reading the annotations gave: the recordings, some of which may have been put there since, and the
    rows that were rejected."""
    rejects = (f"{reject.name}\0{reject.where}\0{reject.reason}" for reject in options.report.rejects)
    text = "\n".join([*paths, "", *sorted(rejects)])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def changed(options: Options, paths: Iterable[str], finished: dict[str, Any] | None) -> int:
    """How many of the recordings that a finished run rejected can be used now, or cannot for another reason; at least
    one if the annotations give other recordings."""
    if finished is None:
        return 0
    if finished["annotations"].get("read_sha256", "") not in ("", reading(options, paths)):
        return 1
    if not finished["rejected"]["clips"]:
        return 0
    raw = {printable(path): path for path in paths}
    return _changed(options, {raw.get(name, name): why for name, why in notes.rejects(options.out).items()})


def already(options: Options, finished: dict[str, Any]) -> str:
    """What is said of a finished directory that stays as it is."""
    date = datetime.datetime.fromtimestamp((options.out / "manifest.json").stat().st_mtime)
    count = finished["rejected"]["clips"]
    again = f"; rejected recordings were tried again and are as they were: {count}" if count else ""
    return f"was finished on {date:%Y-%m-%d %H:%M}{again}; choose another --out to prepare it anew"


def _changed(options: Options, rejects: dict[str, str]) -> int:
    recipe = Recipe.of(options)
    with wave.keeping_open():
        return sum(write_clips.convert(recipe, name)[1].get("reason") != reason for name, reason in rejects.items())


def discard(options: Options, paths: list[str], retried: bool) -> None:
    """Takes the notes of an interrupted run away that a run from here on would not write: of other recordings, or of
    rejected ones that are different now."""
    size, stale = options.shard_size, False
    for number, entries in _noted(options, paths):
        rejects = {entry["name"]: entry["reason"] for entry in entries if "reason" in entry}
        part = paths[number * size : (number + 1) * size]
        if [entry["name"] for entry in entries] != part or (retried and _changed(options, rejects)):
            notes.discard(options.out, number)
            stale = True
    for number, entries in _noted(options, paths) if stale else ():  # which are unused depends on the rejects
        if any("unused" in entry for entry in entries):
            notes.discard(options.out, number)


def _noted(options: Options, paths: list[str]) -> Iterator[tuple[int, list[Entry]]]:
    """Number and entries of the shards that are done."""
    for number in range(-(-len(paths) // options.shard_size)):
        if notes.is_done(options.out, number):
            yield number, notes.read(options.out, number)["clips"]


def reopen(options: Options, paths: list[str], finished: dict[str, Any]) -> None:
    """Makes a finished directory an unfinished one: writes the notes of shards that a run from here on would write the
    same, and removes all other results."""
    rejects, index, size = notes.rejects(options.out), options.out / "index", options.shard_size
    (options.out / "work").mkdir(exist_ok=True)
    words = _words(options)
    first = 0
    for number, file in enumerate(sorted(options.out.glob("clips-*.arrayrecord"))):
        headers = notes.headers(options.out, number)
        part = paths[number * size : (number + 1) * size]
        entries = _entries(part, headers, rejects)
        if file.name in finished["files"] and entries is not None:
            notes.write(options.out, number, entries, words[first : first + len(headers)])
        first += len(headers)
    (options.out / "manifest.json").unlink()
    for old in [
        *options.out.glob("examples-*.arrayrecord"),
        *index.iterdir(),
        *map(options.out.joinpath, write_clips.RESULTS),
    ]:
        old.unlink(missing_ok=True)
    for number, file in enumerate(sorted(options.out.glob("clips-*.arrayrecord"))):
        if not notes.note(options.out, number).is_file():
            file.unlink()


def _words(options: Options) -> list[np.ndarray]:
    """The fingerprints of all clips, in order."""
    index = options.out / "index"
    count = len(np.load(index / "clip_shard.npy"))
    if not options.fingerprints:
        return [notes.NO_WORDS] * count
    saved = np.load(index / "fingerprint.npy"), np.load(index / "fingerprint_end.npy")
    return np.split(saved[0], saved[1])[:-1] if count else []


def _entries(part: list[str], headers: list[Entry], rejects: dict[str, str]) -> list[Entry] | None:
    """The entries of a shard of the recordings in `part`; None if it holds others, or clips of an earlier version."""
    entries, left = [], iter(headers)
    for name in part:
        if (shown := printable(name)) in rejects:
            entries.append({"name": name, "reason": rejects[shown]})
            continue
        header = next(left, None)
        if header is None or header["name"] != shown or "source_rate" not in header:
            return None
        entries.append({"name": name, **{key: header[key] for key in write_clips.NOTED if key in header}})
    return entries if next(left, None) is None else None
