"""Queries and clips -> token sequences, and rows of them ready for prefill."""

import dataclasses
import functools
from collections.abc import Sequence as Seq
from typing import Any

import jax
import numpy as np

from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError
from nlm_jax.data.text import Format, Tokenizer, TokenSequence, build_sequence, normalize_query
from nlm_jax.generate.audio_inputs import Clip, Sound
from nlm_jax.generate.shapes import rounded_up
from nlm_jax.models.config import NatureLMConfig

BUCKET = 64
"""Sequence lengths are rounded up to a multiple of this, so that few shapes are compiled."""


@dataclasses.dataclass(frozen=True)
class Prompt:
    """The S positions of one prompt, up to where the answer begins."""

    tokens: np.ndarray
    """i32[S]; 0 at the positions of audio vectors."""
    audio_slot: np.ndarray
    """i32[S]: clip * vectors_per_clip + vector, -1 = text."""
    positions: np.ndarray
    """i32[S]: positions for RoPE."""
    real: np.ndarray
    """bool[S]: False at padding."""
    vectors_per_clip: int
    sounds: tuple[Sound, ...]
    """The clips, padded to the longest of them."""

    def __len__(self) -> int:
        return len(self.tokens)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("tokens", "audio_slot", "positions", "real", "last", "vectors"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class Prompts:
    """Prompts of B rows, padded on the right. On the host all but `vectors` are numpy arrays."""

    tokens: Any
    """i32[B, S]; 0 at audio vectors and padding."""
    audio_slot: Any
    """i32[B, S]: index into the row's `vectors`, -1 = text."""
    positions: Any
    """i32[B, S]: positions for RoPE."""
    real: Any
    """bool[B, S]: False at padding."""
    last: Any
    """i32[B]: the position that predicts the first new token."""
    vectors: Any
    """[B, AWQ, D]: the encoded clips of each row."""


def text_format(cfg: NatureLMConfig, samples: int) -> Format:
    """The text format of a model for clips of `samples` samples.

    Raises:
      UserError: the clips are too short for a single window of the Q-Former.
    """
    vectors = cfg.qformer.vectors(samples)
    if not vectors:
        raise UserError(f"a clip of {samples / 16000:.2f} s is too short: the model needs about half a second of audio")
    return Format(vectors, cfg.prompt_template, cfg.end_sym, cfg.max_txt_len)


def user_text(query: str, template: str) -> str:
    """The user's part of a prompt that has the chat template already; any other text is returned unchanged."""
    head, tail = template.split("{}", 1)
    if query.startswith(head) and query.endswith(tail):
        return query[len(head) : len(query) - len(tail)]
    return query


def token_sequence(tokenizer: Tokenizer, n_clips: int, query: str, answer: str | None, fmt: Format) -> TokenSequence:
    """Tokens of a query about `n_clips` clips, and of its answer unless that is None.

    Raises:
      UserError: the query does not have one placeholder per clip.
    """
    text = normalize_query(user_text(query, fmt.template), n_clips)
    return build_sequence(
        tokenizer, text, answer, n_clips, fmt.vectors_per_clip, fmt.template, fmt.end_sym, fmt.max_txt_len
    )


def prompt(tokenizer: Tokenizer, clips: Seq[Clip], query: str, cfg: NatureLMConfig) -> Prompt:
    """The prompt of a query about `clips`, which are padded to the longest of them.

    Raises:
      UserError: the query does not have one placeholder per clip, or a clip is too short.
    """
    samples = max((len(c.wave) for c in clips), default=SAMPLE_RATE)
    fmt = text_format(cfg, samples)
    sequence = token_sequence(tokenizer, len(clips), query, None, fmt)
    length = len(sequence)
    return Prompt(
        tokens=np.array(sequence.tokens, np.int32),
        audio_slot=np.array(sequence.audio_slot, np.int32),
        positions=np.arange(length, dtype=np.int32),
        real=np.ones(length, bool),
        vectors_per_clip=fmt.vectors_per_clip,
        sounds=tuple(Sound.of(clip, samples) for clip in clips),
    )


def right_padded(prompts: Seq[Prompt]) -> list[Prompt]:
    """The prompts of one batch, all padded on the right to the longest: a defect of the reference, for comparisons.

    The answer is predicted from the last position, which is padding. Padding has position 1, as transformers computes
    positions from the attention mask.
    """
    longest, padded = max(len(p) for p in prompts), []
    for p in prompts:
        padding = longest - len(p)
        fields = {"tokens": 0, "audio_slot": -1, "positions": 1, "real": False}
        arrays = {n: np.pad(getattr(p, n), (0, padding), constant_values=v) for n, v in fields.items()}
        padded.append(dataclasses.replace(p, **arrays))
    return padded


def stacked(prompts: Seq[Prompt], rows: int, per_clip: int) -> dict[str, np.ndarray]:
    """The fields of `Prompts`, all but `vectors`.

    Args:
      prompts: at most `rows` prompts; the other rows are empty.
      rows: number of rows.
      per_clip: slots of each clip in a row's vectors, at least as many as any clip has vectors.
    """
    length = rounded_up(max(len(p) for p in prompts), BUCKET)
    fields = {
        "tokens": np.zeros((rows, length), np.int32),
        "audio_slot": np.full((rows, length), -1, np.int32),
        "positions": np.tile(np.arange(length, dtype=np.int32), (rows, 1)),
        "real": np.zeros((rows, length), bool),
        "last": np.zeros(rows, np.int32),
    }
    for row, p in enumerate(prompts):
        n, slot = len(p), p.audio_slot
        fields["tokens"][row, :n], fields["positions"][row, :n], fields["real"][row, :n] = p.tokens, p.positions, p.real
        clip, vector = np.divmod(slot, p.vectors_per_clip)
        fields["audio_slot"][row, :n] = np.where(slot >= 0, clip * per_clip + vector, -1)
        fields["last"][row] = n - 1
    return fields


def check_pairs(audios: Seq, queries: Seq[str]) -> None:
    """Raises UserError unless there is one entry of `audios` for each query."""
    check_texts("queries", queries)
    if len(audios) != len(queries):
        raise UserError(f"{len(audios)} audios for {len(queries)} queries; give one entry of audios per query")


def check_texts(name: str, texts: Any) -> None:
    """Raises UserError unless `texts`, the argument `name`, is a list of strings."""
    if isinstance(texts, str) or not isinstance(texts, Seq):
        raise UserError(f"{name}: give a list of texts, one per answer")
    for text in texts:
        if not isinstance(text, str):
            raise UserError(f"{name}: holds {text!r}, which is not a string")
