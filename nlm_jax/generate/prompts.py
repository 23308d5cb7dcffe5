"""Questions and clips -> token sequences, and rows of them ready for prefill."""

import dataclasses
import functools
from collections.abc import Sequence as Seq
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nlm_jax.audio.scale import check_loudest
from nlm_jax.audio.wave import check_floats
from nlm_jax.core.batch import Batch
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import NotFinite, UserError
from nlm_jax.data.pack import PackItem, assemble, shape_for
from nlm_jax.data.text import Format, Tokenizer, build_sequence, normalize_query
from nlm_jax.generate.audio_inputs import Clip, Sound
from nlm_jax.models.config import NatureLMConfig

BUCKET = 64
"""Sequence lengths are rounded up to a multiple of this, so that few shapes are compiled."""


@dataclasses.dataclass(frozen=True)
class Prompt:
    """One question as the model reads it, up to where the answer begins: S positions."""

    tokens: np.ndarray
    """i32[S]; 0 where a clip's vector stands."""
    audio_slot: np.ndarray
    """i32[S]: clip * vectors_per_clip + vector, -1 = text."""
    positions: np.ndarray
    real: np.ndarray
    """bool[S]: False at padding."""
    vectors_per_clip: int
    sounds: tuple[Sound, ...]

    def __len__(self) -> int:
        return len(self.tokens)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("tokens", "audio_slot", "positions", "real", "last", "vectors"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class Prompts:
    """Prompts of B rows, padded on the right. numpy on the host."""

    tokens: Any
    """i32[B, S]; 0 at clip vectors and padding."""
    audio_slot: Any
    """i32[B, S]: index into the row's `vectors`, -1 = text."""
    positions: Any
    """i32[B, S]."""
    real: Any
    """bool[B, S]: False at padding."""
    last: Any
    """i32[B]: where the first new token is predicted."""
    vectors: Any
    """[B, AWQ, D]: the encoded clips of each row."""


def text_format(cfg: NatureLMConfig, samples: int) -> Format:
    """How a model of `cfg` writes its sequences for clips of `samples` samples.

    Raises:
      UserError: the clips are too short for a single window.
    """
    vectors = cfg.qformer.vectors(samples)
    if not vectors:
        raise UserError(f"a clip of {samples / 16000:.2f} s is too short: the model needs about half a second of audio")
    return Format(vectors, cfg.prompt_template, cfg.end_sym, cfg.max_txt_len)


def user_text(query: str, template: str) -> str:
    """The user's part of a prompt that already carries the chat template; any other text as it is."""
    head, tail = template.split("{}", 1)
    if query.startswith(head) and query.endswith(tail):
        return query[len(head) : len(query) - len(tail)]
    return query


def item(tokenizer: Tokenizer, clips: Seq[Clip], query: str, answer: str | None, samples: int, fmt: Format) -> PackItem:
    """One example, its clips zero-padded to `samples` with a true padding mask.

    Raises:
      UserError: the prompt does not hold one placeholder per clip.
    """
    prompt = normalize_query(user_text(query, fmt.template), len(clips))
    sequence = build_sequence(
        tokenizer, prompt, answer, len(clips), fmt.vectors_per_clip, fmt.template, fmt.end_sym, fmt.max_txt_len
    )
    return PackItem(sequence, tuple(c.wave for c in clips), tuple(c.length for c in clips))


def teacher_forced(items: Seq[PackItem], samples: int, fmt: Format) -> Batch:
    """One example a row, padded on the right to the longest: the reference's training batch."""
    shape = shape_for(items, samples)
    return Batch(**assemble([[one] for one in items], shape, fmt.vectors_per_clip))


def prompt(tokenizer: Tokenizer, clips: Seq[Clip], query: str, cfg: NatureLMConfig) -> Prompt:
    """What is asked about `clips`, which are heard as long as the longest of them.

    Raises:
      UserError: the prompt does not hold one placeholder per clip, or a clip is too short.
    """
    samples = max((len(c.wave) for c in clips), default=SAMPLE_RATE)
    fmt = text_format(cfg, samples)
    sequence = item(tokenizer, clips, query, None, samples, fmt).sequence
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
    """A defect of the reference, for comparisons: prompts of one batch filled up on the right to the longest.

    The last, empty position answers. Padding stands at position 1, a leftover of how transformers counts positions.
    """
    longest, made = max(len(p) for p in prompts), []
    for p in prompts:
        padding = longest - len(p)
        fields = {"tokens": 0, "audio_slot": -1, "positions": 1, "real": False}
        filled = {n: np.pad(getattr(p, n), (0, padding), constant_values=v) for n, v in fields.items()}
        made.append(dataclasses.replace(p, **filled))
    return made


def stacked(prompts: Seq[Prompt], rows: int, per_clip: int) -> dict[str, np.ndarray]:
    """`prompts` as `rows` rows of `decode.Prompts`, without their vectors; rows past them are empty.

    Args:
      per_clip: vectors that each clip takes of a row's, at least as many as any has.
    """
    length = -(-max(len(p) for p in prompts) // BUCKET) * BUCKET
    made = {
        "tokens": np.zeros((rows, length), np.int32),
        "audio_slot": np.full((rows, length), -1, np.int32),
        "positions": np.tile(np.arange(length, dtype=np.int32), (rows, 1)),
        "real": np.zeros((rows, length), bool),
        "last": np.zeros(rows, np.int32),
    }
    for row, p in enumerate(prompts):
        n, slot = len(p), p.audio_slot
        made["tokens"][row, :n], made["positions"][row, :n], made["real"][row, :n] = p.tokens, p.positions, p.real
        clip, vector = np.divmod(slot, p.vectors_per_clip)
        made["audio_slot"][row, :n] = np.where(slot >= 0, clip * per_clip + vector, -1)
        made["last"][row] = n - 1
    return made


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
      UserError: other shapes, no floats, or samples that are not finite or beyond any scale of floats.
    """
    try:
        audio = waveforms if hasattr(waveforms, "shape") else np.asarray(waveforms)
    except ValueError as error:  # rows of different length
        raise UserError("waveforms: rows differ in length; zero-pad them and give the padding_mask") from error
    if len(audio.shape) != 2 or not audio.shape[0]:
        raise UserError(f"waveforms of shape {tuple(audio.shape)}: give f32[B, T], one row for each clip")
    check_floats(audio)
    if not isinstance(audio, jax.core.Tracer):
        samples = jnp.asarray(audio)
        if not bool(jnp.isfinite(samples).all()):  # not from the peak: a reduction by max may drop NaN on some CPUs
            raise NotFinite("waveforms: hold samples that are NaN or infinite")
        check_loudest("waveforms", float(jnp.abs(samples).max(initial=0)))
    if padding is not None:
        padding = padding if hasattr(padding, "shape") else np.asarray(padding)
        if padding.shape != audio.shape:
            raise UserError(
                f"padding_mask of shape {tuple(padding.shape)} for waveforms of {tuple(audio.shape)}: give one truth "
                "value for each sample, True where it is padding"
            )
        padding = jnp.asarray(padding, bool)
    return jnp.asarray(audio, jnp.float32), padding
