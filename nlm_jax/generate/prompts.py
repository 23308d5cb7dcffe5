"""Questions and clips -> rows that end together, ready for prefill."""

import dataclasses
from collections.abc import Sequence as Seq

import jax
import jax.numpy as jnp
import numpy as np

from nlm_jax.audio.wave import check_floats
from nlm_jax.core.batch import Batch
from nlm_jax.core.errors import UserError
from nlm_jax.data.pack import Item, RowShape, assemble, shape_for
from nlm_jax.data.text import Format, Tokenizer, build_sequence, normalize_query

BUCKET = 64
"""Sequence lengths are rounded up to a multiple of this, so that few shapes are compiled."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """A waveform f32[T] in [-1, 1] at 16 kHz. Samples past `length` are padding the encoder's mask leaves out."""

    wave: np.ndarray
    length: int

    @classmethod
    def of(cls, wave: np.ndarray) -> "Clip":
        return cls(wave, len(wave))


def user_text(query: str, template: str) -> str:
    """The user's part of a prompt that already carries the chat template; any other text as it is."""
    head, tail = template.split("{}", 1)
    if query.startswith(head) and query.endswith(tail):
        return query[len(head) : len(query) - len(tail)]
    return query


def item(tokenizer: Tokenizer, clips: Seq[Clip], query: str, answer: str | None, samples: int, fmt: Format) -> Item:
    """One example, its clips zero-padded to `samples` with a true padding mask.

    Raises:
      UserError: the prompt does not hold one placeholder per clip.
    """
    prompt = normalize_query(user_text(query, fmt.template), len(clips))
    sequence = build_sequence(
        tokenizer, prompt, answer, len(clips), fmt.vectors_per_clip, fmt.template, fmt.end_sym, fmt.max_txt_len
    )
    return Item(sequence, tuple(c.wave for c in clips), tuple(c.length for c in clips))


def teacher_forced(items: Seq[Item], samples: int, fmt: Format) -> Batch:
    """One example a row, padded on the right to the longest: the reference's training batch."""
    shape = shape_for(items, samples)
    return Batch(**assemble([[one] for one in items], shape, fmt.vectors_per_clip))


def prefill_rows(items: Seq[Item], samples: int, fmt: Format, *, rows: int, right: bool = False) -> Batch:
    """Prompts padded on the left, so that every row's next token goes into the same slot of the cache.

    Args:
      rows: rows of the batch; those past `items` are empty.
      right: pad on the right instead and let the last, empty position answer, as the reference does. Its padding
        stands at position 1 there, a leftover of how transformers counts positions.
    """
    shape = shape_for(items, samples)
    length = shape.tokens if right else -(-shape.tokens // BUCKET) * BUCKET
    shape = RowShape(length, shape.clips, shape.answers, shape.samples)
    packed = [[one] for one in items] + [[] for _ in range(rows - len(items))]
    fields = assemble(packed, shape, fmt.vectors_per_clip)
    padding = fields["segments"] == 0
    if right:
        fields["positions"] = np.where(padding, 1, fields["positions"])
    else:
        order = np.argsort(~padding, axis=1, kind="stable")  # padding first, the rest in order
        for name in ("tokens", "positions", "segments", "audio_slot"):
            fields[name] = np.take_along_axis(fields[name], order, axis=1)
    return Batch(**fields)


def check_pairs(audios: Seq, queries: Seq[str]) -> None:
    """Raises UserError unless there is one entry of `audios` for each query."""
    check_texts("queries", queries)
    if len(audios) != len(queries):
        raise UserError(f"{len(audios)} audios for {len(queries)} queries; give one entry of audios per query")


def check_texts(name: str, texts) -> None:
    """Raises UserError unless `texts`, an argument called `name`, is a list of texts."""
    if isinstance(texts, str) or not isinstance(texts, Seq):
        raise UserError(f"{name}: give a list of texts, one per answer")
    for text in texts:
        if not isinstance(text, str):
            raise UserError(f"{name}: holds {text!r}, which is no text")


def waveforms_of(waveforms, padding) -> tuple[jax.Array, jax.Array | None]:
    """f32[B, T] and the mask bool[B, T] of what a caller took for them.

    Raises:
      UserError: other shapes, no floats, or samples that are not finite.
    """
    try:
        audio = waveforms if hasattr(waveforms, "shape") else np.asarray(waveforms)
    except ValueError as error:  # rows of different length
        raise UserError("waveforms: rows differ in length; zero-pad them and give the padding_mask") from error
    if len(audio.shape) != 2 or not audio.shape[0]:
        raise UserError(f"waveforms of shape {tuple(audio.shape)}: give f32[B, T], one row for each clip")
    check_floats(audio)
    if isinstance(audio, np.ndarray) and not np.isfinite(audio).all():
        raise UserError("waveforms: hold samples that are NaN or infinite")
    if padding is not None:
        padding = padding if hasattr(padding, "shape") else np.asarray(padding)
        if padding.shape != audio.shape:
            raise UserError(
                f"padding_mask of shape {tuple(padding.shape)} for waveforms of {tuple(audio.shape)}: give one truth "
                "value for each sample, True where it is padding"
            )
        padding = jnp.asarray(padding, bool)
    return jnp.asarray(audio, jnp.float32), padding
