"""Duplicates among the clips, and clips of a benchmark: which training examples are dropped because of them."""

import collections
import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt64

from nlm_jax.core.files import printable
from nlm_jax.data import schema
from nlm_jax.prepare import near_duplicates
from nlm_jax.prepare.annotations import Annotations
from nlm_jax.prepare.clip_index import ClipIndex
from nlm_jax.prepare.leakage import Benchmark
from nlm_jax.prepare.near_duplicates import Fingerprints, Match
from nlm_jax.prepare.survey import Survey

MOST_PAIRS = 64
"""Pairs listed of one match, if its clips have exact copies."""
Write = Callable[[dict[str, Any]], None]


class Pair(NamedTuple):
    """Two clips with the same samples or the same sound; one clip twice if it is in training and in another split."""

    first: int
    second: int
    match: Match | None = None
    """How well near duplicates match; None for exact ones."""

    @property
    def kind(self) -> str:
        return "near" if self.match else "exact"


class Repeats:
    """Compares the clips with each other and with the benchmark; writes `duplicates.jsonl` and `leakage.jsonl`.

    Args:
      annotations: of the run.
      survey: the recordings and their splits.
      clips: all of them, with fingerprints.
    """

    def __init__(self, annotations: Annotations, survey: Survey, clips: ClipIndex):
        self.dropped: dict[int, str] = {}
        """Clip -> "duplicate" or "leak": its training examples are dropped."""
        self.duplicates: dict[str, Any] = {}
        """Policy and counts of duplicates, for the manifest."""
        self.leakage: dict[str, Any] = {}
        """Counts of benchmark clips, for the manifest."""
        options = annotations.options
        self._options, self._survey, self._clips = options, survey, clips
        if not options.fingerprints:
            return
        self._names = list(survey.paths)
        in_training = np.asarray([any(map(options.is_training, splits)) for splits in survey.split_sets])
        in_others = np.asarray([not all(map(options.is_training, splits)) for splits in survey.split_sets])
        self._split_code = np.asarray(survey.splits, np.int64)[np.asarray(clips.recording, np.int64)]
        self._in_training, self._in_others = in_training[self._split_code], in_others[self._split_code]
        index = options.out / "index"
        prints = Fingerprints(np.load(index / "fingerprint.npy", mmap_mode="r"), np.load(index / "fingerprint_end.npy"))
        digests = np.frombuffer(clips.digests, np.uint64)  # not asarray: "Q" may be another type of that width
        if annotations.benchmark is not None:
            with _json_lines(options.out / "leakage.jsonl") as write:
                self._find_leakage(annotations.benchmark, prints, digests, write)
        if options.duplicates != "none":
            with _json_lines(options.out / "duplicates.jsonl") as write:
                self._find_duplicates(prints, digests, write)

    def _splits(self, clip: int) -> list[str]:
        return sorted(self._survey.split_sets[self._survey.splits[self._clips.recording[clip]]])

    def _name(self, clip: int) -> str:
        return printable(self._names[self._clips.recording[clip]])

    def _find_leakage(
        self, benchmark: Benchmark, prints: Fingerprints, digests: UInt64[np.ndarray, "N"], write: Write
    ) -> None:
        """Clips with the same samples, or the same sound, as a recording of the benchmark."""
        count = len(digests)
        by_digest = {int(digest): k for k, digest in enumerate(benchmark.digests) if digest}
        leaks: dict[int, tuple[str, int, float]] = {
            clip: ("exact", by_digest[digest], 0.0)
            for clip, digest in enumerate(digests.tolist())
            if digest in by_digest
        }
        if len(benchmark.prints):
            both = Fingerprints(
                np.concatenate([prints.words, benchmark.prints.words]),
                np.concatenate([prints.end, benchmark.prints.end + len(prints.words)]),
            )
            group = (np.arange(len(both)) >= count).astype(np.int64)
            for match in near_duplicates.near_matches(both, group=group):
                leaks.setdefault(match.first, ("near", match.second - count, match.errors))
        for clip, (kind, recording, errors) in sorted(leaks.items()):
            is_dropped = bool(self._in_training[clip]) and self._options.leakage == "drop"
            if is_dropped:
                self.dropped[clip] = "leak"
            write(
                {
                    "kind": kind,
                    "clip": self._name(clip),
                    "splits": self._splits(clip),
                    "benchmark": benchmark.names[recording],
                    "bit_errors": round(errors, 4),
                    "dropped": is_dropped,
                }
            )
        kinds = collections.Counter(kind for kind, _, _ in leaks.values())
        self.leakage = {"clips": {"exact": kinds["exact"], "near": kinds["near"]}}

    def _find_duplicates(self, prints: Fingerprints, digests: UInt64[np.ndarray, "N"], write: Write) -> None:
        """Clips with the same samples, or the same sound, as another clip of the corpus."""
        pairs = self._pairs(prints, near_duplicates.exact_copies(digests))
        if self._options.duplicates == "drop":
            self._drop(pairs)
        counts = {kind: {"within": 0, "across": 0} for kind in ("exact", "near")}
        for pair in pairs:
            first, second, match = pair
            splits = [self._splits(first), self._splits(second)]
            across = first == second or splits[0] != splits[1]
            counts[pair.kind]["across" if across else "within"] += 1
            clips = dict.fromkeys((first, second))
            entry = {
                "kind": pair.kind,
                "first": self._name(first),
                "second": self._name(second),
                "splits": splits,
                "dropped": [self._name(clip) for clip in clips if self.dropped.get(clip) == "duplicate"],
            }
            if match is not None:
                entry["bit_errors"] = round(match.errors, 4)
                entry |= {"offset": round(match.offset, 2), "seconds": round(match.seconds, 2)}
            write(entry)
        self.duplicates = {"policy": self._options.duplicates, **counts}

    def _pairs(self, prints: Fingerprints, copies: list[list[int]]) -> list[Pair]:
        """All pairs, exact ones first; of each group of exact `copies` only the first is compared by sound."""
        count = len(self._split_code)
        is_first = np.ones(count, bool)
        for group in copies:
            is_first[group[1:]] = False
        file_numbers: dict[str, int] = {}
        files = [file_numbers.setdefault(schema.file_of(self._name(clip)), len(file_numbers)) for clip in range(count)]
        # Windows of one recording overlap by design; they are compared only if they are in different splits.
        group = np.asarray(files, np.int64) * len(self._survey.split_sets) + self._split_code
        matches = near_duplicates.near_matches(prints, is_first, group)
        pairs = [Pair(clip, clip) for clip in np.flatnonzero(self._in_training & self._in_others).tolist()]
        pairs += [Pair(first, other) for first, *others in copies for other in others]
        copies_of = {group[0]: group for group in copies}
        for match in matches:
            firsts = copies_of.get(match.first, [match.first])
            seconds = copies_of.get(match.second, [match.second])
            pairs += [Pair(a, b, match) for a in firsts for b in seconds][:MOST_PAIRS]
        return pairs

    def _drop(self, pairs: list[Pair]) -> None:
        """Drops training clips that another split has, then those that repeat an earlier clip of training."""
        for pair in pairs:
            for clip, other in ((pair.first, pair.second), (pair.second, pair.first)):
                if self._in_training[clip] and self._in_others[other]:
                    self.dropped.setdefault(clip, "duplicate")
        for first, second, _ in sorted(pairs, key=lambda pair: pair[:2]):
            both_in_training = self._in_training[first] and self._in_training[second]
            if first != second and both_in_training and first not in self.dropped:
                self.dropped.setdefault(second, "duplicate")


@contextlib.contextmanager
def _json_lines(path: pathlib.Path) -> Iterator[Write]:
    """A function that writes an object per line to a file."""
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        yield lambda entry: file.write(json.dumps(entry, ensure_ascii=False) + "\n") and None
