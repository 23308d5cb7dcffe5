"""Batches for teacher forcing: prompts with their answers, one example per row, as the reference trains on them."""

from collections.abc import Sequence as Seq
from typing import Any

import jax
import jax.numpy as jnp

from nlm_jax.core.batch import Batch
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError
from nlm_jax.data.pack import PackItem, assemble, shape_for
from nlm_jax.data.text import Format, Tokenizer
from nlm_jax.generate.audio_inputs import Clip, check_waveform
from nlm_jax.generate.prompts import check_pairs, check_texts, text_format, token_sequence
from nlm_jax.models.config import NatureLMConfig


def example_batch(
    tokenizer: Tokenizer, cfg: NatureLMConfig, prompts: Seq[str], texts: Seq[str], audios: Seq[Any]
) -> Batch:
    """The batch of `NatureLM.logits` and `NatureLM.loss`; arguments and errors are theirs."""
    check_pairs(audios, prompts)
    check_texts("texts", texts)
    if len(texts) != len(prompts) or not prompts:
        raise UserError(f"{len(texts)} texts for {len(prompts)} prompts; give one or more prompts with a text each")
    clips = [
        [Clip.of(check_waveform(a)) for a in ([audio] if getattr(audio, "ndim", 0) == 1 else audio)] for audio in audios
    ]
    samples = max((len(c.wave) for row in clips for c in row), default=SAMPLE_RATE)
    fmt = text_format(cfg, samples)
    examples = [example(tokenizer, *fields, fmt) for fields in zip(clips, prompts, texts, strict=True)]
    return jax.tree.map(jnp.asarray, teacher_forced(examples, samples, fmt))


def example(tokenizer: Tokenizer, clips: Seq[Clip], query: str, answer: str | None, fmt: Format) -> PackItem:
    """One example for `teacher_forced`.

    Raises:
      UserError: the query does not have one placeholder per clip.
    """
    sequence = token_sequence(tokenizer, len(clips), query, answer, fmt)
    return PackItem(sequence, tuple(c.wave for c in clips), tuple(c.length for c in clips))


def teacher_forced(examples: Seq[PackItem], samples: int, fmt: Format) -> Batch:
    """One example per row, padded on the right to the longest; clips are padded to `samples` with a true mask."""
    shape = shape_for(examples, samples)
    return Batch(**assemble([[e] for e in examples], shape, fmt.vectors_per_clip))
