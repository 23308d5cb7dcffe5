"""Duplicate clips: those with the same samples, and those whose fingerprints say that they have the same sound.

Near duplicates are found by voting in an inverted index. A frame of a fingerprint consists of two half words of 32
bits, which are treated alike:

1. Index: the half words of all clips are sorted, so that frames with equal words are adjacent. A word of 0 means that
   there is no energy to compare, and is left out; of a word that repeats within a clip the first frame counts.
2. Votes: two adjacent frames of different clips vote for the pair of clips and for the offset between their frames. A
   frame is paired with its next `NEIGHBOURS` frames only, so that the work grows with the number of frames, not of
   pairs of clips.
3. First look: 32 frames of each candidate (pair, offset) are compared, which removes most accidental votes.
4. Check: the remaining candidates, those with the most votes first, are compared frame by frame by the share of
   informative bits that differ (Hamming distance). Each pair of clips keeps its best offset.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, UInt64

from nlm_jax.prepare.fingerprint import FRAMES_PER_SECOND

NEIGHBOURS = 16
"""Frames with the same word that a frame is paired with."""
FRAMES_AT_ONCE = 1 << 24
"""Most frames sorted at a time; of more frames the words are divided into parts."""
SHIFT = 1 << 15
"""Upper bound of offsets in frames (17 minutes)."""
MOST_BIT_ERRORS = 0.23
"""Largest share of differing bits in a half word. Of 1562 recordings (1.2 million pairs) all pairs below have the same
sound; the nearest others differ in 0.25 (two cuts of one field recording) and 0.27. A copy as MP3 or OGG, shifted or
resampled has 0 to 0.18."""
GOOD_BIT_ERRORS = 0.05
"""Share of differing bits below which no better offset is looked for."""
LEAST_FRAMES = 24
"""Frames (0.8 s) that two clips must share to be compared."""
HALVES = (np.uint64(0xFFFFFFFF), np.uint64(0xFFFFFFFF << 32))
"""Masks of the half words."""
FIRST_LOOK_FRAMES = 32
"""Frames compared in the first look."""
FIRST_LOOK_MARGIN = 0.15
"""Added to `MOST_BIT_ERRORS` in the first look, which sees few frames."""
CANDIDATES_AT_ONCE = 1 << 14
"""Candidates of the first look that are compared at a time."""
MOST_CANDIDATES = 20_000_000
"""Candidates compared at most: those with the most votes."""


@dataclasses.dataclass(frozen=True)
class Match:
    """Two clips with the same sound, `first` < `second`."""

    first: int
    second: int
    offset: float
    """Seconds into `first` at which `second` begins; negative if `first` begins within `second`."""
    seconds: float
    """Length of what they share."""
    errors: float
    """Share of bits that differ there: 0 to 0.23; unrelated sounds differ in half of them."""


@dataclasses.dataclass(frozen=True)
class Fingerprints:
    """Fingerprints of N clips, one after the other."""

    words: UInt64[np.ndarray, "F"]
    end: Int[np.ndarray, "N"]
    """Frames up to the end of each clip."""

    def __len__(self) -> int:
        return len(self.end)

    def of(self, clip: int) -> UInt64[np.ndarray, "f"]:
        """The fingerprint of one clip."""
        return self.words[self.end[clip - 1] if clip else 0 : self.end[clip]]


def exact_copies(digests: UInt64[np.ndarray, "N"]) -> list[list[int]]:
    """Groups of two or more clips with the same digest, in the order of their first clip."""
    order = np.argsort(digests, kind="stable")
    edges = np.flatnonzero(np.diff(digests[order])) + 1 if len(digests) else []
    return sorted(sorted(part.tolist()) for part in np.split(order, edges) if len(part) > 1)


def near_matches(
    prints: Fingerprints,
    compared: Bool[np.ndarray, "N"] | None = None,
    group: Int[np.ndarray, "N"] | None = None,
    frames_at_once: int = FRAMES_AT_ONCE,
) -> list[Match]:
    """Pairs of clips that share half of the shorter one, or two seconds.

    Args:
      prints: the clips' fingerprints.
      compared: clips that take part; default all.
      group: clips with the same number, such as windows of one recording, are not compared with each other.
      frames_at_once: bounds the memory of the index; it does not change the result.

    Returns:
      The matches, ordered by their clips.
    """
    codes, votes = _candidates(prints, compared, group, frames_at_once)
    if len(codes) > MOST_CANDIDATES:
        threshold = np.sort(votes)[-MOST_CANDIDATES]
        codes, votes = codes[votes > threshold], votes[votes > threshold]
    likely = _first_look(prints, codes)
    codes, votes = codes[likely], votes[likely]
    by_votes = codes[np.argsort(-votes, kind="stable")]
    best: dict[tuple[int, int], Match] = {}
    for first, second, offset in zip(*(part.tolist() for part in unpack_code(by_votes, len(prints))), strict=True):
        previous = best.get((first, second))
        if previous and previous.errors < GOOD_BIT_ERRORS:
            continue
        match = _match(prints, first, second, offset)
        if match and (previous is None or match.errors < previous.errors):
            best[first, second] = match
    return [best[pair] for pair in sorted(best)]


def pack_code(first: Any, second: Any, offset: Any, clips: int) -> Any:
    """One integer for a pair of `clips` clips and their offset in frames, so that equal candidates can be counted."""
    return (first * clips + second) * (2 * SHIFT) + (offset + SHIFT)


def unpack_code(code: Any, clips: int) -> tuple[Any, Any, Any]:
    """(first, second, offset) of `pack_code`."""
    pair, offset = np.divmod(code, 2 * SHIFT)
    return *np.divmod(pair, clips), offset - SHIFT


def _first_look(prints: Fingerprints, codes: Int[np.ndarray, "C"]) -> Bool[np.ndarray, "C"]:
    """Whether a few frames of each candidate differ little enough for a match to be possible."""
    start = np.concatenate([np.zeros(1, np.int64), prints.end])
    likely = np.zeros(len(codes), bool)
    for begin in range(0, len(codes), CANDIDATES_AT_ONCE):
        part = slice(begin, begin + CANDIDATES_AT_ONCE)
        first, second, offset = unpack_code(codes[part], len(prints))
        begin_first, begin_second = start[first] + np.maximum(offset, 0), start[second] + np.maximum(-offset, 0)
        frames = np.minimum(start[first + 1] - begin_first, start[second + 1] - begin_second)
        sampled = (frames[:, None] * np.arange(FIRST_LOOK_FRAMES)) // FIRST_LOOK_FRAMES
        x, y = prints.words[begin_first[:, None] + sampled], prints.words[begin_second[:, None] + sampled]
        for half in HALVES:
            errors, bits = _bit_errors(x & half, y & half)
            likely[part] |= errors <= (MOST_BIT_ERRORS + FIRST_LOOK_MARGIN) * bits
    return likely


def _match(prints: Fingerprints, first: int, second: int, offset: int) -> Match | None:
    """The match of two clips at an offset, or one frame next to it; None if they differ too much."""
    a, b = prints.of(first), prints.of(second)
    best = None
    for shift in (offset, offset - 1, offset + 1):
        x, y = (a[shift:], b) if shift >= 0 else (a, b[-shift:])
        frames = min(len(x), len(y))
        if frames < max(LEAST_FRAMES, min(0.5 * min(len(a), len(b)), 2 * FRAMES_PER_SECOND)):
            continue
        for half in HALVES:
            wrong, bits = _bit_errors(x[:frames] & half, y[:frames] & half)
            if bits < 32 * max(LEAST_FRAMES, frames / 4):
                continue
            errors = float(wrong / bits)
            if errors <= MOST_BIT_ERRORS and (best is None or errors < best.errors):
                best = Match(first, second, shift / FRAMES_PER_SECOND, frames / FRAMES_PER_SECOND, errors)
    return best


def _bit_errors(x: UInt64[np.ndarray, "*C F"], y: UInt64[np.ndarray, "*C F"]) -> tuple[Any, Any]:
    """How many bits of the half words of F frames differ, and how many are informative: neither word is 0."""
    informative = (x != 0) & (y != 0)
    differing = np.where(informative, np.bitwise_count(x ^ y), 0)
    return differing.sum(axis=-1), 32 * informative.sum(axis=-1)


def _candidates(prints: Fingerprints, compared, group, frames_at_once: int) -> tuple[np.ndarray, np.ndarray]:
    """i64[C] codes of (first, second, offset), and i64[C] how many words vote for each."""
    parts = -(-len(prints.words) // frames_at_once) or 1
    codes, counts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for half in range(len(HALVES)):
        for part in range(parts):
            index = _sorted_words(prints, compared, half, part, parts, frames_at_once)
            votes = list(_votes(*index, group, len(prints)))
            if votes:
                code, count = np.unique(np.concatenate(votes), return_counts=True)
                codes.append(code)
                counts.append(count)
    code, place = np.unique(np.concatenate(codes), return_inverse=True)
    return code, np.bincount(place, np.concatenate(counts), len(code)).astype(np.int64)


def _sorted_words(
    prints: Fingerprints, compared, half: int, part: int, parts: int, frames_at_once: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The inverted index: u32[K] words of one part in ascending order, i32[K] their clips, i32[K] their frames.

    Args:
      prints: of all clips.
      compared: clips that take part.
      half: 0 for the low half words, 1 for the high ones.
      part: words that are `part` modulo `parts`.
      parts: number of parts.
      frames_at_once: frames read at a time.
    """
    words, clips, frames = [np.zeros(0, np.uint32)], [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
    for begin in range(0, len(prints.words), frames_at_once):
        word = np.asarray(prints.words[begin : begin + frames_at_once])
        word = (word >> np.uint64(32 * half)).astype(np.uint32)
        chosen = np.flatnonzero((word != 0) & (word % np.uint32(parts) == part))
        clip = np.searchsorted(prints.end, chosen + begin, side="right")
        if compared is not None:
            chosen, clip = chosen[compared[clip]], clip[compared[clip]]
        words.append(word[chosen])
        clips.append(clip.astype(np.int32))
        frames.append((chosen + begin - np.where(clip > 0, prints.end[clip - 1], 0)).astype(np.int32))
    word, clip, frame = np.concatenate(words), np.concatenate(clips), np.concatenate(frames)
    order = np.argsort(word, kind="stable")
    word, clip, frame = word[order], clip[order], frame[order]
    is_first = np.ones(len(word), bool)
    is_first[1:] = (word[1:] != word[:-1]) | (clip[1:] != clip[:-1])
    return word[is_first], clip[is_first], frame[is_first]


def _votes(word, clip, frame, group, clips: int) -> Iterator[np.ndarray]:
    """Yields i64[V] codes, one per pair of frames with equal words; arguments as `_sorted_words` returns them."""
    active = np.arange(len(word))
    for distance in range(1, NEIGHBOURS + 1):
        active = active[active + distance < len(word)]
        active = active[word[active] == word[active + distance]]
        if not len(active):
            return
        voting = active
        if group is not None:
            voting = voting[group[clip[voting]] != group[clip[voting + distance]]]
        offset = frame[voting] - frame[voting + distance]
        voting, offset = voting[np.abs(offset) < SHIFT], offset[np.abs(offset) < SHIFT]
        yield pack_code(clip[voting].astype(np.int64), clip[voting + distance], offset, clips)
