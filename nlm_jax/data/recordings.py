"""The audio that a name of an annotation stands for: a file below the audio root, or a part of one."""

import math
import pathlib

import numpy as np
from jaxtyping import Float

from nlm_jax.audio import wave
from nlm_jax.data.schema import part_of


def load(
    root: pathlib.Path, name: str, seconds: float | None = None, quality: wave.Quality = "HQ"
) -> tuple[Float[np.ndarray, "T"], bool]:
    """f32[T] at 16 kHz, at most `seconds` of it, and whether something was cut off for that.

    Raises:
      UserError: as `wave.load`, or a part that ends before it starts.
    """
    if (part := part_of(name)) and not (root / name).is_file():
        file, start, end = part
        kept = min(end - start, seconds or math.inf)
        return wave.load(root / file, start, kept, quality), kept < end - start
    audio = wave.load(root / name, seconds=seconds, quality=quality)
    return audio, bool(seconds) and wave.info(root / name).seconds > seconds + 0.01
