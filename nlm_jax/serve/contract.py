"""`predictions_v1`: what a request may hold, and how its items become questions. Source: BEANS-Next's HTTP contract.

The envelope is checked first and refused as a whole; what is wrong with one item is that item's own error.
"""

import base64
import binascii
import os
import pathlib
from typing import Annotated, Any

import numpy as np
import pydantic

from nlm_jax.audio import wave
from nlm_jax.audio.config import AudioConfig
from nlm_jax.core.chat import DEFAULT_TEMPLATE
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError
from nlm_jax.data.text import PLACEHOLDER
from nlm_jax.generate.options import BOUNDS
from nlm_jax.generate.request import Answer
from nlm_jax.serve.types import ServeQuestion

SCHEMA = "predictions_v1"
PAYLOADS = ("base64_wav", "file_path")
ROLES = ("system", "user", "assistant")
HEAD, TAIL = DEFAULT_TEMPLATE.split("{}")
END = TAIL.partition("<|start_header_id|>")[0]
"""Text that closes a turn of a conversation."""


FINISH_REASONS = {"end": "stop", "stop": "stop", "length": "length"}
"""`generate.request.Answer.finish` -> `finish_reason`."""


class Refused(Exception):
    """A request that is refused as a whole, with its HTTP status."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


Positive = Annotated[int, pydantic.Field(ge=1)]
TEXT = 1_000_000
"""Characters of all messages of an item: they wait in the queue with it."""
IDENT = 1000
"""Characters of a sample_id, which comes back with the answer."""
VALUES = 200_000
"""Values that the JSON of a request may hold: parsed, each takes some twenty times its bytes."""


def _bounded(kind: type, name: str) -> Any:
    """A number within the bounds that `generate.options` has for it."""
    least, most, _ = BOUNDS[name]
    return Annotated[kind, pydantic.Field(ge=least, le=most)] | None


class Message(_Strict):
    role: str
    content: str


class AudioInput(_Strict):
    payload_type: str
    data: str
    sample_rate: Positive | None = None
    """Nominal: the sample rate in the audio's header is used."""


class GenerationConfig(_Strict):
    model_config = pydantic.ConfigDict(extra="allow")
    max_tokens: Positive | None = None
    temperature: _bounded(float, "temperature") = None
    max_length_seconds: Annotated[float, pydantic.Field(gt=0)] | None = None
    top_k: _bounded(int, "top_k") = None
    top_p: Annotated[float, pydantic.Field(gt=0, le=1)] | None = None
    seed: _bounded(int, "seed") = None
    repetition_penalty: _bounded(float, "repetition_penalty") = None

    @property
    def sampling(self) -> dict[str, Any]:
        """Documentation of the fields that `generate.options.GenerationOptions` has under the same name."""
        names = ("temperature", "top_k", "top_p", "seed", "repetition_penalty")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class Item(_Strict):
    """One question of a request."""

    sample_id: str
    messages: list[Message]
    audio_inputs: list[AudioInput]
    generation_config: GenerationConfig = GenerationConfig()


def envelope(body: bytes, most: int) -> list[dict[str, Any]]:
    """The items of the body of `POST /predict`, not looked into beyond their ids.

    Raises:
      Refused: 422 no JSON or not `predictions_v1`; 413 more than `most` items; 400 ids that are missing or twice there.
    """
    batch = document(body)
    if batch.get("schema_version") != SCHEMA:
        raise Refused(422, f"schema_version: must be {SCHEMA!r}, is {batch.get('schema_version')!r:.80}")
    if extra := sorted(batch.keys() - {"schema_version", "requests"}):
        raise Refused(422, f"{', '.join(extra)[:200]}: unknown; a request holds schema_version and requests alone")
    items = batch.get("requests")
    if not isinstance(items, list):
        raise Refused(422, "requests: must be a list")
    if len(items) > most:
        raise Refused(413, f"{len(items)} requests, at most {most} at a time")
    seen = set()
    for number, item in enumerate(items):
        ident = item.get("sample_id") if isinstance(item, dict) else None
        if not isinstance(ident, str) or not ident:
            raise Refused(400, f"requests[{number}].sample_id: must be a text that is not empty")
        if len(ident) > IDENT:
            raise Refused(400, f"requests[{number}].sample_id: {len(ident)} characters, at most {IDENT}")
        if ident in seen:
            raise Refused(400, f"sample_id {ident!r:.80} is there twice")
        seen.add(ident)
    return items


def document(body: bytes) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
      Refused: 422 it is none, 413 it holds more than `VALUES` values.
    """
    if sum(body.count(mark) for mark in b",[{") > VALUES:
        raise Refused(413, f"the body holds more than {VALUES} values; send less at a time")
    try:
        return pydantic.TypeAdapter(dict[str, Any]).validate_json(body)
    except pydantic.ValidationError as error:
        raise Refused(422, f"the body is not a JSON object: {error.errors()[0]['msg']}") from None


def question(
    fields: dict[str, Any], root: pathlib.Path | None, most_tokens: int, most_clips: int, audio: AudioConfig
) -> ServeQuestion:
    """The query of an item.

    Args:
      audio: how the checkpoint's clips are made.
      root: the folder below which `file_path` may name files; None = no files.
      most_tokens: longest answer that is given.
      most_clips: audio inputs that one item may have.

    Raises:
      UserError: fields missing or wrong, no question, audio that cannot be read or may not, or clips that do not fit
        the placeholders.
    """
    try:
        item = Item.model_validate(fields)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{'.'.join(map(str, first['loc'])):.200}: {first['msg']:.300}") from None
    if (size := sum(len(message.content) for message in item.messages)) > TEXT:
        raise UserError(f"messages: {size} characters, at most {TEXT}")
    text = conversation(item.messages)
    count, placed = len(item.audio_inputs), text.count(PLACEHOLDER)
    if not count:
        raise UserError("audio_inputs: give at least one")
    if count > most_clips:
        raise UserError(f"audio_inputs: {count} are more than the {most_clips} this server takes for one question")
    if placed not in (0, count):
        raise UserError(f"messages: {placed} times {PLACEHOLDER} but {count} audio inputs")
    config = item.generation_config
    clips = tuple(_clip(i, a, root, audio, config.max_length_seconds) for i, a in enumerate(item.audio_inputs))
    return ServeQuestion(clips, text, min(config.max_tokens or most_tokens, most_tokens), config.sampling)


def conversation(messages: list[Message]) -> str:
    """The user's text. Earlier turns stand in front, between the marks of the chat template; so does a system's text.

    Raises:
      UserError: no message with text, an unknown role, or a last message that is not the user's.
    """
    nonempty = [m for m in messages if m.content.strip()]
    if unknown := next((m.role for m in messages if m.role not in ROLES), None):
        raise UserError(f"messages: role {unknown!r:.40} is unknown; use {', '.join(ROLES)}")
    if not any(m.role == "user" for m in nonempty):
        raise UserError("messages: no user message with text")
    if nonempty[-1].role == "assistant":
        raise UserError("messages: the last one is the assistant's; end with the user's question")
    text = ""
    for before, message in zip([None, *nonempty], nonempty, strict=False):
        if message.role == "assistant":
            text += TAIL + message.content + END
        else:
            text += (HEAD if before and before.role == "assistant" else "\n" if before else "") + message.content
    return text


def response(ident: str, answer: Answer, seconds: float) -> dict[str, Any]:
    """The item of the response that holds an answer."""
    done = {"sample_id": ident, "predictions": [answer.text], **ending(answer)}
    return done | {"latency_sec": round(seconds, 6)}


def ending(answer: Answer) -> dict[str, Any]:
    """Why an answer ended, and its size: `finish_reason` and `usage`."""
    usage = {"prompt_tokens": answer.prompt_tokens, "completion_tokens": len(answer.ids)}
    return {"finish_reason": FINISH_REASONS[answer.finish], "usage": usage}


def failure(ident: str, error: str, seconds: float) -> dict[str, Any]:
    """The item of the response with the reason for a missing answer."""
    return {"sample_id": ident, "predictions": [], "error": error, "latency_sec": round(seconds, 6)}


def _clip(
    number: int, sound: AudioInput, root: pathlib.Path | None, audio: AudioConfig, longest: float | None
) -> np.ndarray:
    """f32[T] of one audio input: cut, or zero-padded, to `longest` seconds, at most the checkpoint's clip length.

    As BEANS-Next's own launcher of the official model and `nlm evaluate` do it.
    """
    name, seconds = f"audio_inputs[{number}]", min(longest or audio.seconds, audio.seconds)
    samples = max(1, round(seconds * SAMPLE_RATE))
    recording = wave.load(_source(name, sound, root), seconds=samples / SAMPLE_RATE, quality=audio.quality, name=name)
    return wave.fit(recording, samples)


def _source(name: str, sound: AudioInput, root: pathlib.Path | None) -> bytes | pathlib.Path:
    """The bytes or the path of an audio input."""
    if sound.payload_type == "base64_wav":
        try:
            return base64.b64decode("".join(sound.data.split()), validate=True)
        except (binascii.Error, ValueError):
            raise UserError(f"{name}: data is not base64") from None
    if sound.payload_type == "file_path":
        if root is None:
            raise UserError(f"{name}: this server reads no files; start it with --audio-root")
        try:
            path = (root / sound.data).resolve()  # follows links; an absolute path replaces the root
            path.is_file()  # raises if the name cannot be that of a file
        except (OSError, ValueError, RuntimeError):  # a name too long, a null character, links in a circle
            raise UserError(f"{name}: data is no path of a file") from None
        if not path.is_relative_to(root.resolve()):
            raise UserError(f"{name}: the file is not below the folder this server may read")
        try:
            os.stat(os.path.join(root, sound.data))  # unresolved: a file has no trailing "/", and "x/.." requires x
        except OSError:
            raise UserError(f"{name}: no such file") from None
        return path
    raise UserError(f"{name}: payload_type {sound.payload_type!r:.40} is not supported; use {' or '.join(PAYLOADS)}")
