"""The clips of all recordings: decoded, resampled, and written in shards, each with a note and fingerprints."""

import collections
import concurrent.futures
import dataclasses
import itertools
import multiprocessing
import pathlib
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt64

from nlm_jax.audio import wave
from nlm_jax.audio.resample import Quality
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import printable
from nlm_jax.data import shards
from nlm_jax.data.schema import whole
from nlm_jax.prepare import audio_sources, notes
from nlm_jax.prepare.fingerprint import fingerprint
from nlm_jax.prepare.options import PrepareOptions

AHEAD = 4
"""Groups of recordings that each worker may be ahead of the shard that is written: what bounds memory."""
GROUP_SIZE = 32
"""Most windows of one recording that a worker converts at a time."""
PROCESSES_FROM = 1024
"""Number of recordings from which processes are worth their start-up time."""
SHORTEST = 16
"""Least samples of a clip, a millisecond: shorter ones are the remainder of a broken recording."""
NOTED = ("samples", "sha256", "cut", "source_rate", "power", "above_band", "notice")
"""Fields of a clip's header that its entry in the note repeats: the rate of the source in Hz; if that is above 16 kHz,
the mean square and the share of it above 8 kHz, which is lost; and why a file was not read to its end."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a recording becomes a clip; small, since it is sent to every worker."""

    root: pathlib.Path
    """Folder of relative audio paths."""
    seconds: float | None
    """Longest clip; None = unlimited."""
    quality: Quality
    encoding: shards.Encoding
    fingerprints: bool

    @classmethod
    def of(cls, options: PrepareOptions, root: pathlib.Path) -> "Recipe":
        """The recipe of a run whose relative audio paths are below `root`."""
        seconds = max(options.max_seconds, options.window) if options.max_seconds else None
        return cls(root, seconds, options.quality, options.encoding, options.fingerprints)


class Conversion(NamedTuple):
    """The outcome for one recording."""

    record: bytes | None
    """The record of its clip; None if it cannot be used."""
    entry: notes.Entry
    """Its entry in the note."""
    words: UInt64[np.ndarray, "F"]
    """Its fingerprint."""


Job = tuple[int, Sequence[str]]
"""Number of a shard, and its recordings."""


def convert(recipe: Recipe, path: str) -> Conversion:
    """Converts one recording; the entry of one that cannot be used has the `reason`."""
    try:
        clip = audio_sources.clip(recipe.root, path, recipe.seconds, recipe.quality)
        audio = clip.part.wave
        if audio.size < SHORTEST:
            count = f"{audio.size} sample{'s' * (audio.size > 1)}"
            raise UserError(f"{path}: has {count} at 16 kHz, too few to hear anything")
    except UserError as error:
        return Conversion(None, {"name": path, "reason": printable(str(error))}, notes.NO_WORDS)
    except Exception as error:  # any error of a decoder concerns this recording only
        reason = printable(f"{path}: cannot be decoded ({type(error).__name__}: {error})")
        return Conversion(None, {"name": path, "reason": reason}, notes.NO_WORDS)
    record, header = shards.encode_clip(audio, printable(path), recipe.encoding, _source_facts(clip))
    entry = {"name": path, **{key: header[key] for key in NOTED if key in header}}
    return Conversion(record, entry, fingerprint(audio) if recipe.fingerprints else notes.NO_WORDS)


def _source_facts(clip: audio_sources.Clip) -> dict[str, Any]:
    """Facts about the source in the header of a clip."""
    part = clip.part
    facts = {"cut": clip.cut, "source_rate": part.rate}
    if part.above_band:
        facts |= {"power": float(f"{part.power:.4g}"), "above_band": round(part.above_band, 4)}
    return facts | ({"notice": part.notice} if part.notice else {})


def convert_group(recipe: Recipe, paths: Sequence[str]) -> list[Conversion]:
    """Converts the recordings of a group (`groups`); windows of one recording are read while it stays open."""
    with wave.keeping_open():
        return [convert(recipe, path) for path in paths]


def groups(paths: Iterable[str]) -> Iterator[list[str]]:
    """Yields consecutive windows of one recording together, up to `GROUP_SIZE`; every other recording alone.

    In a lossy file a window may depend on the one read before it, so groups depend on names alone, not on workers.
    """
    for _, windows in itertools.groupby(paths, whole):
        names = list(windows)
        yield from (names[first : first + GROUP_SIZE] for first in range(0, len(names), GROUP_SIZE))


def missing_shards(paths: Sequence[str], out: pathlib.Path, shard_size: int) -> list[Job]:
    """The shards that have no note yet.

    Args:
      paths: all recordings.
      out: the prepared directory.
      shard_size: recordings per shard.
    """
    starts = enumerate(range(0, len(paths), shard_size))
    return [(number, paths[start : start + shard_size]) for number, start in starts if not notes.is_done(out, number)]


def write_shard(out: pathlib.Path, number: int, conversions: Iterable[Conversion]) -> None:
    """Writes one shard of the recordings that could be used, their fingerprints, and last its note."""
    entries, words = [], []

    def records() -> Iterator[bytes]:
        for conversion in conversions:
            entries.append(conversion.entry)
            if conversion.record is not None:
                words.append(conversion.words)
                yield conversion.record

    shards.write_records(shards.shard_path(out, "clips", number), records(), shards.CLIP_OPTIONS)
    notes.write(out, number, entries, words)


def write_clips(
    recipe: Recipe, out: pathlib.Path, jobs: list[Job], advance: Callable[[int], object], workers: int
) -> None:
    """Writes shards on this machine; workers stay a few recordings ahead of the shard that is written.

    Args:
      recipe: how recordings are converted.
      out: the prepared directory.
      jobs: the shards to write.
      advance: called with 1 after each recording.
      workers: threads or processes.
    """
    pool = _pool(workers, sum(len(paths) for _, paths in jobs))
    pending_groups = itertools.chain.from_iterable(groups(paths) for _, paths in jobs)
    futures = collections.deque(
        pool.submit(convert_group, recipe, group) for group in itertools.islice(pending_groups, AHEAD * workers)
    )

    def in_order() -> Iterator[Conversion]:
        while futures:
            for conversion in futures.popleft().result():
                advance(1)
                yield conversion
            futures.extend(pool.submit(convert_group, recipe, group) for group in itertools.islice(pending_groups, 1))

    conversions = in_order()
    try:
        for number, paths in jobs:
            write_shard(out, number, itertools.islice(conversions, len(paths)))
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupted run stops at once


def _pool(workers: int, recordings: int) -> concurrent.futures.Executor:
    """Threads run decoding and resampling in parallel; processes also the Python around them, but start slowly."""
    if workers == 1 or recordings < PROCESSES_FROM:
        return concurrent.futures.ThreadPoolExecutor(workers)
    context = multiprocessing.get_context("forkserver")
    return concurrent.futures.ProcessPoolExecutor(workers, context, _ignore_interrupts)


def _ignore_interrupts() -> None:
    """Leaves Ctrl-C to the parent process, which shuts the workers down."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
