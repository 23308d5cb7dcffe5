"""Sound, encoded and read back, for tests of recordings that are not as their headers say."""

import io

import numpy as np
import soundfile

from nlm_jax.audio.storage import Data
from nlm_jax.audio.stream import Stream

RATE = 16_000


def sound(seconds, rate=RATE, seed=0):
    """Noise that grows louder: every second sounds different, and a VBR encoder spends more and more on it."""
    rng, count = np.random.default_rng(seed), round(seconds * rate)
    return (np.linspace(0.001, 0.3, count) * rng.uniform(-1, 1, count)).astype(np.float32)


def encoded(samples, kind, rate=RATE, **options):
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=kind, **options)
    return out.getvalue()


def read(data, **where):
    """All samples of some bytes, at their own rate."""
    return Stream(Data(data)).read(0, **where)


def plain(data):
    """The same as libsndfile reads it at once."""
    return soundfile.read(io.BytesIO(data), dtype="float32")[0]
