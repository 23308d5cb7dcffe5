"""`predictions_v1`: what a request may hold, and how its items become questions. Source: BEANS-Next's HTTP contract."""

import base64
import binascii
import pathlib
from typing import Any, Literal

import numpy as np
import pydantic

from nlm_jax.audio import wave
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError
from nlm_jax.data.text import PLACEHOLDER
from nlm_jax.serve.batcher import Question

SCHEMA = "predictions_v1"
SECONDS = 10.0
"""Clips are cut or zero-padded to it, as in training."""
PAYLOADS = ("base64_wav", "file_path")


class Message(pydantic.BaseModel):
    role: str
    content: str


class AudioInput(pydantic.BaseModel):
    payload_type: str
    data: str
    sample_rate: int | None = None


class GenerationConfig(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    max_tokens: int | None = pydantic.Field(None, ge=1)
    temperature: float | None = pydantic.Field(None, ge=0)
    max_length_seconds: float | None = pydantic.Field(None, gt=0)


class Item(pydantic.BaseModel):
    sample_id: str
    messages: list[Message] = []
    audio_inputs: list[AudioInput] = []
    generation_config: GenerationConfig = GenerationConfig()


class Request(pydantic.BaseModel):
    """The body of `POST /predict`; other keys than these two are refused."""

    model_config = pydantic.ConfigDict(extra="forbid")
    schema_version: Literal["predictions_v1"]
    requests: list[Item]


def question(item: Item, root: pathlib.Path | None, most_tokens: int) -> Question:
    """What an item asks.

    Args:
      root: the folder below which `file_path` may name files; None = no files.
      most_tokens: longest answer that is given.

    Raises:
      UserError: no question, audio that cannot be read or may not, or clips that do not fit the placeholders.
    """
    if item.generation_config.temperature:
        raise UserError("temperature above 0: this server answers greedily; set it to 0")
    texts = [m.content for m in item.messages if m.role in ("system", "user") and m.content.strip()]
    if not any(m.role == "user" and m.content.strip() for m in item.messages):
        raise UserError("messages: no user message with text")
    text = "\n".join(texts)
    clips = tuple(clip(a, root, item.generation_config.max_length_seconds) for a in item.audio_inputs)
    placed = text.count(PLACEHOLDER)
    if placed not in (0, len(clips)):
        raise UserError(f"messages: {placed} times {PLACEHOLDER} but {len(clips)} audio inputs")
    if not clips:
        raise UserError("audio_inputs: give at least one")
    return Question(clips, text, min(item.generation_config.max_tokens or most_tokens, most_tokens))


def clip(given: AudioInput, root: pathlib.Path | None, longest: float | None) -> np.ndarray:
    """f32[160000] of one audio input."""
    seconds = min(longest or SECONDS, SECONDS)
    return wave.fit(wave.load(source(given, root), seconds=seconds, name="audio"), round(SECONDS * SAMPLE_RATE))


def source(given: AudioInput, root: pathlib.Path | None) -> Any:
    """The bytes or the path of an audio input."""
    if given.payload_type == "base64_wav":
        try:
            return base64.b64decode(given.data, validate=True)
        except (binascii.Error, ValueError):
            raise UserError("audio_inputs: data is not base64") from None
    if given.payload_type == "file_path":
        path = pathlib.Path(given.data)
        if root is None:
            raise UserError("audio_inputs: this server reads no files; start it with --audio-root")
        path = (root / path).resolve()  # also where it is absolute
        if not path.is_relative_to(root.resolve()):
            raise UserError("audio_inputs: the file is not below the folder this server may read")
        return path
    raise UserError(f"audio_inputs: payload_type {given.payload_type!r} is not supported; use {' or '.join(PAYLOADS)}")
