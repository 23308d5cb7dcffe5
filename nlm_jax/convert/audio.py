"""How clips are made, in the `config.json` of an official NatureLM."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from nlm_jax.audio.config import AudioConfig
from nlm_jax.core.config import build
from nlm_jax.models.config import check_audio

KEY = "nlm_audio"
"""Not the official class's: it takes the fields it knows from the file and ignores others."""
OFFICIAL = AudioConfig(quality="kaiser_best")
"""Behavior of the official processor, which no config states."""


def audio_config(official: Mapping, where: str) -> AudioConfig:
    """Clips as the official processor makes them, unless the config differs.

    Raises:
      UserError: settings that cannot be; `where` is what the message calls the config.
    """
    return check_audio(build(AudioConfig, official.get(KEY) or OFFICIAL, f"{where}: {KEY}"), f"{where}: {KEY}")


def audio_json(official: Mapping, audio: AudioConfig) -> dict[str, Any]:
    """The config with `audio` in it, if that differs from the official processor."""
    others = {name: value for name, value in official.items() if name != KEY}
    return others | ({} if audio == OFFICIAL else {KEY: dataclasses.asdict(audio)})
