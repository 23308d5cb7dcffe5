"""Examples into rows of fixed shape: which row each goes to (`fill_rows`), and the arrays of a row (`assemble`)."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from nlm_jax.core.batch import FIELDS
from nlm_jax.core.errors import UserError
from nlm_jax.data.text import TokenSequence


@dataclasses.dataclass(frozen=True)
class RowShape:
    """Static sizes of one row."""

    tokens: int
    """S: positions of the sequence."""
    clips: int
    """A: audio clips."""
    answers: int
    """M: target tokens."""
    samples: int
    """T: samples of every clip."""

    @property
    def capacity(self) -> tuple[int, int, int]:
        """Tokens, clips and answer tokens."""
        return self.tokens, self.clips, self.answers


@dataclasses.dataclass(frozen=True)
class PackItem:
    """One example ready for its row."""

    sequence: TokenSequence
    audio: tuple[np.ndarray, ...]
    """Per clip f32[T'] with T' <= T; the rest of its slot stays zero."""
    audio_length: tuple[int, ...] | None = None
    """Per clip, the samples that the encoder's mask counts as valid; None = all T, as in the reference's dataset."""


def shape_for(items: Sequence[PackItem], samples: int | None = None) -> RowShape:
    """The smallest row that holds any one of `items` alone; at least one clip and one answer slot.

    Args:
      items: the examples.
      samples: of a clip; None = as the longest clip of `items`.
    """
    longest = max((wave.shape[-1] for item in items for wave in item.audio), default=0)
    return RowShape(
        tokens=max(len(item.sequence) for item in items),
        clips=max(1, *(item.sequence.n_clips for item in items)),
        answers=max(1, *(item.sequence.n_answers for item in items)),
        samples=longest if samples is None else samples,
    )


def assemble(rows: Sequence[Sequence[PackItem]], shape: RowShape, vectors_per_clip: int) -> dict[str, np.ndarray]:
    """The fields of `core.batch.Batch` for `rows`, each a list of examples.

    Returns:
      audio f32[B, A, T], audio_length i32[B, A], tokens, positions, segments, audio_slot i32[B, S],
      answer_index, targets, answer_segment i32[B, M], weights f32[B, M].

    Raises:
      UserError: the examples of a row do not fit the shape.
    """
    fields = empty(len(rows), shape)
    for number, items in enumerate(rows):
        fill_row({name: fields[name][number] for name in FIELDS}, items, shape, vectors_per_clip)
    return fields


def fill_row(row: dict[str, np.ndarray], items: Sequence[PackItem], shape: RowShape, vectors_per_clip: int) -> None:
    """Writes examples into an empty row in place.

    Args:
      row: fields of `assemble` without the leading axis.
      items: the examples, in order.
      shape: of the row.
      vectors_per_clip: Q-Former vectors of a clip.

    Raises:
      UserError: the examples do not fit the shape, or one has more or fewer clips than placeholders.
    """
    position = clip = slot = 0  # the first free token position, clip and answer slot
    for segment, item in enumerate(items, start=1):
        sequence, n_tokens, n_answers = item.sequence, len(item.sequence), item.sequence.n_answers
        if len(item.audio) != sequence.n_clips:
            raise UserError(f"{sequence.n_clips} placeholders but {len(item.audio)} audio clips")
        ends = (position + n_tokens, clip + sequence.n_clips, slot + n_answers)
        if ends[0] > shape.tokens or ends[1] > shape.clips or ends[2] > shape.answers:
            raise UserError(
                f"a row of {shape.tokens} tokens, {shape.clips} clips and {shape.answers} answer tokens does not hold "
                f"{ends[0]}, {ends[1]} and {ends[2]}; raise row_tokens, row_clips or row_answers"
            )
        positions, answers = slice(position, ends[0]), slice(slot, ends[2])
        audio_slot = np.asarray(sequence.audio_slot, np.int32)
        row["tokens"][positions] = sequence.tokens
        row["positions"][positions] = np.arange(n_tokens)
        row["segments"][positions] = segment
        row["audio_slot"][positions] = np.where(audio_slot >= 0, audio_slot + clip * vectors_per_clip, -1)
        # The logits at a position predict the token after it.
        row["answer_index"][answers] = position + np.arange(sequence.answer_start, n_tokens) - 1
        row["targets"][answers] = sequence.tokens[sequence.answer_start :]
        row["weights"][answers] = 1.0
        row["answer_segment"][answers] = segment
        for number, wave in enumerate(item.audio, start=clip):
            if wave.shape[-1] > shape.samples:
                raise UserError(f"a clip of {wave.shape[-1]} samples in a row for {shape.samples}; crop it first")
            row["audio"][number, : wave.shape[-1]] = wave
            if item.audio_length is not None:
                row["audio_length"][number] = item.audio_length[number - clip]
        position, clip, slot = ends


def empty(rows: int, shape: RowShape) -> dict[str, np.ndarray]:
    """Fields of `rows` rows of padding: no example, all weights 0."""
    zeros = lambda n: np.zeros((rows, n), np.int32)  # noqa: E731
    return {
        "audio": np.zeros((rows, shape.clips, shape.samples), np.float32),
        "audio_length": np.full((rows, shape.clips), shape.samples, np.int32),
        "tokens": zeros(shape.tokens),
        "positions": zeros(shape.tokens),
        "segments": zeros(shape.tokens),
        "audio_slot": np.full((rows, shape.tokens), -1, np.int32),
        "answer_index": zeros(shape.answers),
        "targets": zeros(shape.answers),
        "weights": np.zeros((rows, shape.answers), np.float32),
        "answer_segment": zeros(shape.answers),
    }


def fill_rows(
    sizes: Int[np.ndarray, "N 3"], capacity: Int[np.ndarray, "3"], rows: int, used: Int[np.ndarray, "R 3"] | None = None
) -> Int[np.ndarray, "N"]:
    """Assigns examples to rows: largest first, each to the emptiest row that holds it.

    The number of rows is fixed, so examples are spread instead of piled into the first row that fits: no row stays
    empty as long as there are as many examples as rows.

    Args:
      sizes: tokens, clips and answer tokens of each example.
      capacity: of a row.
      rows: number of rows.
      used: what each row holds already; None = nothing.

    Returns:
      The row of each example; -1 if no row holds it.
    """
    free = np.tile(capacity, (rows, 1)) if used is None else capacity - used
    scale = 1.0 / np.maximum(capacity, 1)
    free_share = (free * scale).min(axis=1)  # of the tightest of the three
    row_of = np.full(len(sizes), -1, np.int64)
    for i in np.argsort(-(sizes * scale).max(axis=1), kind="stable"):
        row = int(np.argmax(free_share))
        if not (free[row] >= sizes[i]).all():  # the emptiest by its tightest count need not be the one that fits
            fits = (free >= sizes[i]).all(axis=1)
            row = int(np.argmax(np.where(fits, free_share, -1.0)))
            if not fits[row]:
                continue
        row_of[i] = row
        free[row] -= sizes[i]
        free_share[row] = (free[row] * scale).min()
    return row_of
