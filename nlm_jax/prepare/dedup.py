"""The third stage of `nlm prepare`: clips that are there twice, or in a benchmark, and which examples go for that."""

import collections
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nlm_jax.core.files import printable
from nlm_jax.data import schema
from nlm_jax.prepare import near_duplicates
from nlm_jax.prepare.near_duplicates import Prints
from nlm_jax.prepare.options import Options
from nlm_jax.prepare.survey import Survey
from nlm_jax.prepare.write_clips import Clips


class Repeats:
    """What was found: why clips are gone from training, and counts for the manifest."""

    def __init__(self, options: Options, survey: Survey, clips: Clips):
        self.gone: dict[int, str] = {}
        """Clip -> "duplicate" or "leak": its training examples are left out."""
        self.duplicates: dict[str, Any] = {}
        self.leakage: dict[str, Any] = {}
        self._options, self._survey, self._clips = options, survey, clips
        if not options.fingerprints:
            return
        self._names = list(survey.paths)
        train = np.asarray([any(map(options.training, s)) for s in survey.sets])
        other = np.asarray([not all(map(options.training, s)) for s in survey.sets])
        code = np.asarray(survey.splits, np.int64)[np.asarray(clips.path, np.int64)]
        self._train, self._held = train[code], other[code]
        index = options.out / "index"
        prints = Prints(np.load(index / "fingerprint.npy", mmap_mode="r"), np.load(index / "fingerprint_end.npy"))
        digests = np.frombuffer(clips.digests, np.uint64)  # not asarray: "Q" may be another type of that width
        if options.against is not None:
            with _lines(options.out / "leakage.jsonl") as write:
                self._leaks(prints, digests, write)
        if options.duplicates != "none":
            with _lines(options.out / "duplicates.jsonl") as write:
                self._twins(prints, digests, code, write)

    def _splits(self, clip: int) -> list[str]:
        return sorted(self._survey.sets[self._survey.splits[self._clips.path[clip]]])

    def _name(self, clip: int) -> str:
        return printable(self._names[self._clips.path[clip]])

    def _leaks(self, prints: Prints, digests: np.ndarray, write: Callable) -> None:
        """Clips of the same samples, or the same sound, as one of the benchmark."""
        against, mine = self._options.against, len(digests)
        known = {int(d): k for k, d in enumerate(against.digests) if d}
        found: dict[int, tuple[str, int, float]] = {
            c: ("exact", known[d], 0.0) for c, d in enumerate(digests.tolist()) if d in known
        }
        if len(against.prints):
            both = Prints(
                np.concatenate([prints.words, against.prints.words]),
                np.concatenate([prints.end, against.prints.end + len(prints.words)]),
            )
            side = (np.arange(len(both)) >= mine).astype(np.int64)
            for match in near_duplicates.near(both, group=side):
                if match.first not in found:
                    found[match.first] = ("near", match.second - mine, match.errors)
        for clip, (kind, theirs, errors) in sorted(found.items()):
            gone = bool(self._train[clip]) and self._options.leakage == "drop"
            if gone:
                self.gone[clip] = "leak"
            write(
                {
                    "kind": kind,
                    "clip": self._name(clip),
                    "splits": self._splits(clip),
                    "benchmark": against.names[theirs],
                    "bit_errors": round(errors, 4),
                    "dropped": gone,
                }
            )
        kinds = collections.Counter(kind for kind, _, _ in found.values())
        self.leakage = {"clips": {"exact": kinds["exact"], "near": kinds["near"]}}

    def _twins(self, prints: Prints, digests: np.ndarray, code: np.ndarray, write: Callable) -> None:
        """Clips of the same samples, or the same sound, as another one of the corpus."""
        groups = near_duplicates.exact(digests)
        first = np.ones(len(digests), bool)
        for group in groups:
            first[group[1:]] = False
        of: dict[str, int] = {}
        whole = [of.setdefault(schema.file_of(self._name(clip)), len(of)) for clip in range(len(digests))]
        # Windows of one recording share what they share by intention, unless they are in different splits.
        together = np.asarray(whole, np.int64) * len(self._survey.sets) + code
        matches = near_duplicates.near(prints, first, together)
        members = {group[0]: group for group in groups}
        pairs = [("exact", c, c, 0.0, 0.0, None) for c in np.flatnonzero(self._train & self._held).tolist()]
        pairs += [("exact", a, b, 0.0, 0.0, None) for a, *rest in groups for b in rest]
        for m in matches:
            both = [(a, b) for a in members.get(m.first, [m.first]) for b in members.get(m.second, [m.second])]
            pairs += [("near", a, b, m.errors, m.offset, m.seconds) for a, b in both[:64]]
        self._drop(pairs)
        counts = {kind: {"within": 0, "across": 0} for kind in ("exact", "near")}
        for kind, a, b, errors, offset, seconds in pairs:
            across = a == b or self._splits(a) != self._splits(b)
            counts[kind]["across" if across else "within"] += 1
            entry = {
                "kind": kind,
                "first": self._name(a),
                "second": self._name(b),
                "splits": [self._splits(a), self._splits(b)],
                "dropped": [self._name(c) for c in dict.fromkeys((a, b)) if self.gone.get(c) == "duplicate"],
            }
            if seconds is not None:
                entry |= {"bit_errors": round(errors, 4), "offset": round(offset, 2), "seconds": round(seconds, 2)}
            write(entry)
        self.duplicates = {"policy": self._options.duplicates, **counts}

    def _drop(self, pairs: list[tuple]) -> None:
        """Clips of training go that another split has, then those that an earlier one of training repeats."""
        if self._options.duplicates != "drop":
            return
        for _, a, b, *_ in pairs:
            for mine, theirs in ((a, b), (b, a)):
                if self._train[mine] and self._held[theirs]:
                    self.gone.setdefault(mine, "duplicate")
        for _, a, b, *_ in sorted(pairs, key=lambda pair: pair[1:3]):
            if a != b and self._train[a] and self._train[b] and a not in self.gone:
                self.gone.setdefault(b, "duplicate")


@contextlib.contextmanager
def _lines(path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that writes objects to a file, one a line."""
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        yield lambda entry: file.write(json.dumps(entry, ensure_ascii=False) + "\n") and None
