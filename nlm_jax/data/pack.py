"""Examples into rows of fixed shape: which go together (`fill_rows`), and the arrays they become (`assemble`)."""

import dataclasses
from collections.abc import Sequence as Seq

import numpy as np
from jaxtyping import Int

from nlm_jax.core.batch import FIELDS
from nlm_jax.core.errors import UserError
from nlm_jax.data.text import Sequence


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


@dataclasses.dataclass(frozen=True)
class Item:
    """One example ready for its row."""

    sequence: Sequence
    audio: tuple[np.ndarray, ...]
    """Per clip f32[T'] with T' <= T; the rest of the slot stays zero."""
    audio_length: tuple[int, ...] | None = None
    """Per clip, the samples the encoder's mask calls real; None = all T, as in the reference's dataset."""


def shape_for(items: Seq[Item], samples: int | None = None) -> RowShape:
    """The smallest row that holds any one of `items` alone; at least one clip and one answer slot."""
    longest = max((a.shape[-1] for item in items for a in item.audio), default=0)
    return RowShape(
        tokens=max(len(item.sequence) for item in items),
        clips=max(1, *(item.sequence.n_clips for item in items)),
        answers=max(1, *(item.sequence.n_answers for item in items)),
        samples=longest if samples is None else samples,
    )


def assemble(rows: Seq[Seq[Item]], shape: RowShape, vectors_per_clip: int) -> dict[str, np.ndarray]:
    """The fields of `core.batch.Batch` for `rows`, each a list of examples (one where nothing is packed).

    Returns:
      audio f32[B, A, T], audio_length i32[B, A], tokens, positions, segments, audio_slot i32[B, S],
      answer_index, targets, answer_segment i32[B, M], weights f32[B, M].

    Raises:
      UserError: a row's examples do not fit the shape.
    """
    made = empty(len(rows), shape)
    for number, items in enumerate(rows):
        fill_row({name: made[name][number] for name in FIELDS}, items, shape, vectors_per_clip)
    return made


def fill_row(row: dict[str, np.ndarray], items: Seq[Item], shape: RowShape, vectors_per_clip: int) -> None:
    """Writes examples into one row of padding, the fields of `assemble` without the leading axis.

    Raises:
      UserError: they do not fit the shape.
    """
    at = clip = slot = 0
    for segment, item in enumerate(items, start=1):
        sequence, n = item.sequence, len(item.sequence)
        if len(item.audio) != sequence.n_clips:
            raise UserError(f"{sequence.n_clips} placeholders but {len(item.audio)} audio clips")
        m = sequence.n_answers
        if at + n > shape.tokens or clip + sequence.n_clips > shape.clips or slot + m > shape.answers:
            raise UserError(
                f"a row of {shape.tokens} tokens, {shape.clips} clips and {shape.answers} answer tokens does not hold "
                f"{at + n}, {clip + sequence.n_clips} and {slot + m}; raise row_tokens, row_clips or row_answers"
            )
        here, answers = slice(at, at + n), slice(slot, slot + m)
        slots = np.asarray(sequence.audio_slot, np.int32)
        row["tokens"][here] = sequence.tokens
        row["positions"][here] = np.arange(n)
        row["segments"][here] = segment
        row["audio_slot"][here] = np.where(slots >= 0, slots + clip * vectors_per_clip, -1)
        row["answer_index"][answers] = (
            at + np.arange(sequence.answer_start, n) - 1
        )  # logits there predict the next token
        row["targets"][answers] = sequence.tokens[sequence.answer_start :]
        row["weights"][answers] = 1.0
        row["answer_segment"][answers] = segment
        for offset, wave in enumerate(item.audio):
            if wave.shape[-1] > shape.samples:
                raise UserError(f"a clip of {wave.shape[-1]} samples in rows made for {shape.samples}; crop it first")
            row["audio"][clip + offset, : wave.shape[-1]] = wave
            if item.audio_length is not None:
                row["audio_length"][clip + offset] = item.audio_length[offset]
        at, clip, slot = at + n, clip + sequence.n_clips, slot + m


def empty(rows: int, shape: RowShape) -> dict[str, np.ndarray]:
    """Rows of padding: no example, all weights 0."""
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
    needs: Int[np.ndarray, "N 3"], capacity: Int[np.ndarray, "3"], rows: int, used: Int[np.ndarray, "R 3"] | None = None
) -> Int[np.ndarray, "N"]:
    """Row of every example, largest first, each into the emptiest row that still holds it; -1 where none does.

    `needs` counts tokens, clips and answer tokens of each example, `capacity` those of a row, `used` what is taken
    already. The number of rows is fixed here, so examples are spread instead of piled into the first row that fits:
    no row stays empty as long as there are as many examples as rows.
    """
    free = np.tile(capacity, (rows, 1)) if used is None else capacity - used
    scale = 1.0 / np.maximum(capacity, 1)
    room = (free * scale).min(axis=1)
    placed = np.full(len(needs), -1, np.int64)
    for i in np.argsort(-(needs * scale).max(axis=1), kind="stable"):
        row = int(np.argmax(room))
        if not (free[row] >= needs[i]).all():  # the emptiest by its tightest count need not be the one that fits
            fits = (free >= needs[i]).all(axis=1)
            row = int(np.argmax(np.where(fits, room, -1.0)))
            if not fits[row]:
                continue
        placed[i] = row
        free[row] -= needs[i]
        room[row] = (free[row] * scale).min()
    return placed
