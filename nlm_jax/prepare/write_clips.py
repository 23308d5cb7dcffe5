"""The second stage of `nlm prepare`: the samples of every recording, in shards with a note and fingerprints each."""

import array
import collections
import concurrent.futures
import dataclasses
import itertools
import multiprocessing
import os
import pathlib
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt64

from nlm_jax.audio import formats, wave
from nlm_jax.audio.resample import Quality
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import printable, read_json, write_json
from nlm_jax.data import shards
from nlm_jax.data.schema import file_of, whole
from nlm_jax.prepare import audio_sources, notes
from nlm_jax.prepare.fingerprint import fingerprint
from nlm_jax.prepare.options import Options
from nlm_jax.prepare.source_report import Sources
from nlm_jax.prepare.survey import Survey

AHEAD = 4
"""Recordings, or groups of windows, that a worker may be ahead of the shard that is written: what bounds memory."""
TOGETHER = 32
"""Windows of one recording that one worker converts in one go."""
PROCESSES_FROM = 1024
"""Recordings from which processes pay for their start."""
SHORTEST = 16
"""Samples of a clip, a millisecond: what is shorter is the remainder of a broken recording."""
NOTED = ("samples", "sha256", "cut", "source_rate", "power", "above_band", "notice")
"""What the note of a shard has of the header of each clip: the rate of the source in Hz, of one above 16 kHz the mean
square and the share of it above 8 kHz, which is lost, and why a file is not read whole."""
RESULTS = ("rejects.jsonl", "duplicates.jsonl", "leakage.jsonl", "held_out_taxa.jsonl")
"""Lists that a run writes beside the shards."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a recording becomes a clip; small, for it is sent to every worker."""

    root: pathlib.Path
    seconds: float | None
    quality: Quality
    encoding: shards.Encoding
    fingerprints: bool

    @classmethod
    def of(cls, options: Options) -> "Recipe":
        """The recipe of a run."""
        seconds = max(options.max_seconds, options.window) if options.max_seconds else None
        return cls(options.root, seconds, options.quality, options.encoding, options.fingerprints)


Made = tuple[bytes | None, dict[str, Any], UInt64[np.ndarray, "F"]]


def convert(recipe: Recipe, path: str) -> Made:
    """The record of a recording (None where it cannot be used), its entry in the note, and its fingerprint."""
    try:
        clip = audio_sources.clip(recipe.root, path, recipe.seconds, recipe.quality)
        audio = clip.part.wave
        if audio.size < SHORTEST:
            count = f"{audio.size} sample{'s' * (audio.size > 1)}"
            raise UserError(f"{path}: has {count} at 16 kHz, too few to hear anything")
    except UserError as error:
        return None, {"name": path, "reason": printable(str(error))}, notes.NO_WORDS
    except Exception as error:  # whatever a strange file makes a decoder do: the other recordings go on
        reason = printable(f"{path}: cannot be decoded ({type(error).__name__}: {error})")
        return None, {"name": path, "reason": reason}, notes.NO_WORDS
    record, header = shards.encode_clip(audio, printable(path), recipe.encoding, _facts(clip))
    entry = {"name": path, **{key: header[key] for key in NOTED if key in header}}
    return record, entry, fingerprint(audio) if recipe.fingerprints else notes.NO_WORDS


def _facts(clip: audio_sources.Clip) -> dict[str, Any]:
    """What the header of a clip says of its source."""
    part = clip.part
    facts = {"cut": clip.cut, "source_rate": part.rate}
    if part.above_band:
        facts |= {"power": float(f"{part.power:.4g}"), "above_band": round(part.above_band, 4)}
    return facts | ({"notice": part.notice} if part.notice else {})


def convert_all(recipe: Recipe, paths: Sequence[str]) -> list[Made]:
    """`convert` of each of `grouped` recordings; the windows of one are read in one go."""
    with wave.keeping_open():
        return [convert(recipe, path) for path in paths]


def grouped(paths: Iterable[str]) -> Iterator[list[str]]:
    """Windows of one recording that follow each other, up to `TOGETHER`; anything else alone.

    What a window becomes may depend on the one before it in a lossy file, so groups depend on names alone.
    """
    for _, group in itertools.groupby(paths, whole):
        every = list(group)
        yield from (every[first : first + TOGETHER] for first in range(0, len(every), TOGETHER))


def begin(options: Options) -> dict[str, Any] | None:
    """Starts or continues `out`; the manifest when it is finished already."""
    plan, file = options.plan(), options.out / "plan.json"
    if file.is_file():
        before = read_json(file)
        changed = [key for key in {**before, **plan} if plan.get(key) != before.get(key)]
        manifest = options.out / "manifest.json"
        finished = read_json(manifest) if manifest.is_file() else None
        if changed == ["annotations_sha256"]:
            if finished is None or not _only_rejects_changed(options, finished):
                raise UserError(
                    f"--out={options.out}: holds a corpus made with other annotations: {options.annotations} was "
                    "changed, or files in it; choose another one, or remove it to prepare all again"
                )
            write_json(file, plan)
        elif changed:
            raise UserError(
                f"--out={options.out}: holds a corpus made with other {', '.join(changed)}; choose another one"
            )
        if finished is not None:
            return finished
    elif options.out.exists() and (not options.out.is_dir() or _foreign(options.out)):
        raise UserError(f"--out={options.out}: exists and is no prepared corpus; choose a new directory")
    (options.out / "work").mkdir(parents=True, exist_ok=True)
    (options.out / "index").mkdir(exist_ok=True)
    write_json(file, plan)
    return None


def _only_rejects_changed(options: Options, finished: dict[str, Any]) -> bool:
    """Whether a folder of annotations is what it was but for recordings that could not be used, or, if any rows
    or recordings were rejected, that no clip was made of."""
    before, names = finished["annotations"], notes.rejects(options.out)
    if not options.source.is_dir():
        return False
    if before.get("sha256_without_rejects") == settled(options, names):
        return True
    if not any(finished["rejected"].values()) or "sha256_of_used" not in before:
        return False
    count = len(list(options.out.glob("clips-*.arrayrecord")))
    clips = (entry["name"] for number in range(count) for entry in notes.headers(options.out, number))
    return before["sha256_of_used"] == of_used(options, clips)


def of_used(options: Options, names: Iterable[str]) -> str:
    """Digest of a folder of annotations without recordings that no clip of these names was made of."""
    folder = pathlib.Path(os.path.abspath(options.source))
    used = {printable(os.path.abspath(options.root / file_of(name))) for name in names}
    sound = (
        file for file in formats.files_below(folder) if formats.is_readable(file) or formats.is_unreadable_sound(file)
    )
    others = {printable(file.relative_to(folder)) for file in sound if printable(file) not in used}
    return shards.digest(options.source, others)


def settled(options: Options, rejected: Iterable[str]) -> str:
    """Digest of a folder of annotations without the files of recordings that could not be used."""
    files = (pathlib.Path(os.path.abspath(options.root / file_of(name))) for name in rejected)
    folder = pathlib.Path(os.path.abspath(options.source))
    names = {printable(file.relative_to(folder)) for file in files if file.is_relative_to(folder)}
    return shards.digest(options.source, names)


def _foreign(out: pathlib.Path) -> bool:
    """Whether a directory without plan holds more than what a run that could use nothing left behind."""
    return any(entry.name not in (*RESULTS, "index") for entry in out.iterdir())


def jobs(paths: Sequence[str], out: pathlib.Path, shard_size: int) -> list[tuple[int, Sequence[str]]]:
    """Number and recordings of every shard that is not there yet."""
    every = enumerate(range(0, len(paths), shard_size))
    return [(n, paths[first : first + shard_size]) for n, first in every if not notes.is_done(out, n)]


def write_shard(out: pathlib.Path, number: int, made: Iterable[Made]) -> None:
    """One shard of what `convert` made of its recordings, its fingerprints, and last its note."""
    file, entries, words = shards.shard_path(out, "clips", number), [], []

    def records() -> Iterator[bytes]:
        for record, entry, print_ in made:
            entries.append(entry)
            if record is not None:
                words.append(print_)
                yield record

    shards.write_records(file, records(), shards.CLIP_OPTIONS)
    notes.write(out, number, entries, words)


def write_clips(options: Options, todo: list[tuple[int, Sequence[str]]], workers: int, advance: Callable) -> None:
    """Writes shards on this machine; workers stay a few recordings ahead of the shard that is written."""
    recipe, pool = Recipe.of(options), _pool(workers, sum(len(part) for _, part in todo))
    groups = itertools.chain.from_iterable(grouped(part) for _, part in todo)
    waiting = collections.deque(pool.submit(convert_all, recipe, g) for g in itertools.islice(groups, AHEAD * workers))

    def made() -> Iterator[Made]:
        while waiting:
            for one in waiting.popleft().result():
                yield one
                advance()
            waiting.extend(pool.submit(convert_all, recipe, group) for group in itertools.islice(groups, 1))

    every = made()
    try:
        for number, part in todo:
            write_shard(options.out, number, itertools.islice(every, len(part)))
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupted run stops at once


def _pool(workers: int, recordings: int) -> concurrent.futures.Executor:
    """Threads share decoding and resampling, processes the Python around them as well, but take seconds to start."""
    if workers == 1 or recordings < PROCESSES_FROM:
        return concurrent.futures.ThreadPoolExecutor(workers)
    context = multiprocessing.get_context("forkserver")
    return concurrent.futures.ProcessPoolExecutor(workers, context, _leave_interrupts)


def _leave_interrupts() -> None:
    """Ctrl-C is for the process that writes: it stops the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Clips:
    """What is known of the clips that were written, from the notes of their shards: numbers only."""

    def __init__(self, options: Options, survey: Survey):
        self.places = {key: array.array("i") for key in ("shard", "record", "samples")}
        self.digests = array.array("Q")
        self.path = array.array("i")
        """Number of the recording of each clip."""
        self.number = array.array("i", [-1]) * len(survey.paths)
        """Number of the clip of each recording; -1 for one that is left out."""
        self.rejected: dict[str, str] = {}
        self.files: dict[str, str] = {}
        self.cut = 0
        self.sources = Sources()
        seen, shard_count = 0, -(-len(survey.paths) // options.shard_size)
        for shard in range(shard_count):
            note = notes.read(options.out, shard)
            self.files[note["file"]] = note["sha256"]
            record = 0
            for clip in note["clips"]:
                if "reason" in clip:
                    self.rejected[clip["name"]] = clip["reason"]
                elif "samples" in clip:
                    self.number[seen] = len(self.path)
                    self.path.append(seen)
                    self.digests.append(int(clip["sha256"][:16], 16))
                    self.cut += clip["cut"]
                    self.sources.add(clip)
                    for key, value in (("shard", shard), ("record", record), ("samples", clip["samples"])):
                        self.places[key].append(value)
                    record += 1
                seen += 1
        np.save(options.out / "index" / "clip_digest.npy", np.frombuffer(self.digests, np.uint64))
        if options.fingerprints:
            self._gather(options.out, shard_count)

    def _gather(self, out: pathlib.Path, shard_count: int) -> None:
        """Puts the fingerprints of all shards one behind the other, a shard in memory at a time."""
        parts = [notes.note(out, shard).with_suffix(".npz") for shard in range(shard_count)]
        kept, sizes = [], [0]
        for part in parts:
            with np.load(part) as stored:
                kept.append(stored["end"] + sizes[-1])
                sizes.append(sizes[-1] + len(stored["words"]))
        np.save(out / "index" / "fingerprint_end.npy", np.concatenate([np.zeros(0, np.int64), *kept]))
        if not sizes[-1]:  # text alone: a map of nothing cannot be made
            np.save(out / "index" / "fingerprint.npy", notes.NO_WORDS)
            return
        total = np.lib.format.open_memmap(out / "index" / "fingerprint.npy", "w+", np.uint64, (sizes[-1],))
        for part, first, last in zip(parts, sizes, sizes[1:], strict=False):
            with np.load(part) as stored:
                total[first:last] = stored["words"]
        total.flush()
