"""Recordings that are there twice: the same samples, or the same sound by its fingerprint.

Near duplicates are found as in an inverted index: frames of equal half words vote for a pair of clips and the offset
between them, and a pair with votes is compared frame by frame. Equal words lie side by side after a sort, and a word is
paired with its next few neighbours only, so that the work grows with the number of frames, not of pairs of clips.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int, UInt64

from nlm_jax.prepare.fingerprint import FRAMES_PER_SECOND

NEIGHBOURS = 16
"""Frames of one word that are paired with each other; of a more frequent one each with its next 16."""
FRAMES_AT_ONCE = 1 << 24
"""Frames sorted at once; words of more frames are taken in several parts."""
SHIFT = 1 << 15
"""Offsets, in frames, are below it (17 minutes)."""
MOST_BIT_ERRORS = 0.23
"""Of the bits of a half word. Of 1562 recordings (1.2 million pairs) all pairs below are one sound; the nearest others
differ in 0.25 (two cuts of one field recording) and 0.27. A copy as MP3 or OGG, shifted or resampled has 0 to 0.18."""
LEAST_FRAMES = 24
"""Frames (0.8 s) that two clips must share to be compared."""
HALVES = (np.uint64(0xFFFFFFFF), np.uint64(0xFFFFFFFF << 32))
FEW, LOOKS = 32, 1 << 14
"""Frames that a first look compares, and pairs that it compares at once."""
MOST_CANDIDATES = 20_000_000
"""Pairs that are looked at; of more those with the most votes are."""


@dataclasses.dataclass(frozen=True)
class Match:
    """Two clips with the same sound, `first` < `second`."""

    first: int
    second: int
    offset: float
    """Seconds into `first` at which `second` begins; negative where `first` begins within `second`."""
    seconds: float
    """Length of what they share."""
    errors: float
    """Share of bits that differ there: 0 to 0.25; unrelated sounds differ in half of them."""


@dataclasses.dataclass(frozen=True)
class Prints:
    """Fingerprints of N clips, one behind the other."""

    words: UInt64[np.ndarray, "F"]
    end: Int[np.ndarray, "N"]
    """Frames up to the end of each clip."""

    def __len__(self) -> int:
        return len(self.end)

    def of(self, clip: int) -> UInt64[np.ndarray, "f"]:
        """Fingerprint of one clip."""
        return self.words[self.end[clip - 1] if clip else 0 : self.end[clip]]


def near(
    prints: Prints, keep: Bool[np.ndarray, "N"] | None = None, group: Int[np.ndarray, "N"] | None = None
) -> list[Match]:
    """Pairs of clips that share half of the shorter one, or two seconds, in their order.

    Args:
      prints: the clips' fingerprints.
      keep: clips that are compared; default all.
      group: clips of one number, such as windows of one recording, are not compared with each other.
    """
    pairs, votes = _votes(prints, keep, group)
    if len(pairs) > MOST_CANDIDATES:
        enough = np.sort(votes)[-MOST_CANDIDATES]
        pairs, votes = pairs[votes > enough], votes[votes > enough]
    alike = _alike(prints, pairs)
    pairs, votes = pairs[alike], votes[alike]
    order = np.argsort(-votes, kind="stable")
    found: dict[tuple[int, int], Match] = {}
    for code in pairs[order].tolist():
        pair, offset = divmod(code // (2 * SHIFT), len(prints)), code % (2 * SHIFT) - SHIFT
        if pair in found and found[pair].errors < 0.05:
            continue
        match = _compared(prints, *pair, offset)
        if match and (pair not in found or match.errors < found[pair].errors):
            found[pair] = match
    return [found[pair] for pair in sorted(found)]


def exact(digests: UInt64[np.ndarray, "N"]) -> list[list[int]]:
    """Groups of clips of the same samples, two or more each, in the order of their first."""
    order = np.argsort(digests, kind="stable")
    edges = np.flatnonzero(np.diff(digests[order])) + 1 if len(digests) else []
    return sorted(sorted(part.tolist()) for part in np.split(order, edges) if len(part) > 1)


def _alike(prints: Prints, codes: np.ndarray) -> Bool[np.ndarray, "C"]:
    """Whether a look at a few frames leaves a chance that a candidate is a match: words agree by accident as well."""
    start = np.concatenate([np.zeros(1, np.int64), prints.end])
    out = np.zeros(len(codes), bool)
    for begin in range(0, len(codes), LOOKS):
        code = codes[begin : begin + LOOKS]
        (first, second), offset = np.divmod(code // (2 * SHIFT), len(prints)), code % (2 * SHIFT) - SHIFT
        a, b = start[first] + np.maximum(offset, 0), start[second] + np.maximum(-offset, 0)
        frames = np.minimum(start[first + 1] - a, start[second + 1] - b)
        places = (frames[:, None] * np.arange(FEW)) // FEW
        x, y = prints.words[a[:, None] + places], prints.words[b[:, None] + places]
        for half in HALVES:
            p, q = x & half, y & half
            told = (p != 0) & (q != 0)
            wrong = np.where(told, np.bitwise_count(p ^ q), 0).sum(axis=1)
            out[begin : begin + LOOKS] |= wrong <= (MOST_BIT_ERRORS + 0.15) * 32 * told.sum(axis=1)
    return out


def _compared(prints: Prints, first: int, second: int, offset: int) -> Match | None:
    a, b = prints.of(first), prints.of(second)
    best = None
    for shift in (offset, offset - 1, offset + 1):
        x, y = (a[shift:], b) if shift >= 0 else (a, b[-shift:])
        frames = min(len(x), len(y))
        if frames < max(LEAST_FRAMES, min(0.5 * min(len(a), len(b)), 2 * FRAMES_PER_SECOND)):
            continue
        for half in HALVES:
            p, q = x[:frames] & half, y[:frames] & half
            told = (p != 0) & (q != 0)
            if told.sum() < max(LEAST_FRAMES, frames / 4):
                continue
            errors = float(np.bitwise_count(p[told] ^ q[told]).sum() / (32 * told.sum()))
            if errors <= MOST_BIT_ERRORS and (best is None or errors < best.errors):
                best = Match(first, second, shift / FRAMES_PER_SECOND, frames / FRAMES_PER_SECOND, errors)
    return best


def _votes(prints: Prints, keep, group) -> tuple[np.ndarray, np.ndarray]:
    """Codes of (first, second, offset), and how many words vote for each."""
    parts = -(-len(prints.words) // FRAMES_AT_ONCE) or 1
    codes, counts = [], []
    for half in (0, 1):
        for part in range(parts):
            events = list(_events(*_keys(prints, keep, half, part, parts), group, len(prints)))
            if events:
                code, count = np.unique(np.concatenate(events), return_counts=True)
                codes.append(code)
                counts.append(count)
    if not codes:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    code, place = np.unique(np.concatenate(codes), return_inverse=True)
    return code, np.bincount(place, np.concatenate(counts)).astype(np.int64)


def _keys(prints: Prints, keep, half: int, part: int, parts: int):
    """Words of one part, sorted, with their clip and frame; the first of each word in a clip."""
    keys, clips, frames = [], [], []
    step = FRAMES_AT_ONCE
    for begin in range(0, len(prints.words), step):
        word = np.asarray(prints.words[begin : begin + step])
        word = (word >> np.uint64(32 * half)).astype(np.uint32)
        kept = np.flatnonzero((word != 0) & (word % np.uint32(parts) == part))
        clip = np.searchsorted(prints.end, kept + begin, side="right")
        if keep is not None:
            kept, clip = kept[keep[clip]], clip[keep[clip]]
        keys.append(word[kept])
        clips.append(clip.astype(np.int32))
        frames.append((kept + begin - np.where(clip > 0, prints.end[clip - 1], 0)).astype(np.int32))
    key, clip, frame = (
        np.concatenate(columns) if columns else np.zeros(0, np.int32) for columns in (keys, clips, frames)
    )
    order = np.argsort(key, kind="stable")
    key, clip, frame = key[order], clip[order], frame[order]
    new = np.ones(len(key), bool)
    new[1:] = (key[1:] != key[:-1]) | (clip[1:] != clip[:-1])
    return key[new], clip[new], frame[new]


def _events(key, clip, frame, group, n: int) -> Iterator[np.ndarray]:
    active = np.arange(len(key))
    for distance in range(1, NEIGHBOURS + 1):
        active = active[active + distance < len(key)]
        active = active[key[active] == key[active + distance]]
        if not len(active):
            return
        kept = active
        if group is not None:
            kept = kept[group[clip[kept]] != group[clip[kept + distance]]]
        offset = frame[kept] - frame[kept + distance]
        kept, offset = kept[np.abs(offset) < SHIFT], offset[np.abs(offset) < SHIFT]
        pair = clip[kept].astype(np.int64) * n + clip[kept + distance]
        yield pair * (2 * SHIFT) + (offset + SHIFT)
