"""Properties of a recording and of its decoded parts."""

import dataclasses

import numpy as np
from jaxtyping import Float

from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError


class PastEnd(UserError):
    """The part begins after the end of the recording."""


@dataclasses.dataclass(frozen=True)
class AudioInfo:
    """Properties of a file. Its length is that of the audio that can be decoded, not that of the header."""

    rate: int
    """Hz."""
    channels: int
    frames: int
    """Samples per channel at `rate`."""
    notice: str = ""
    """Why less of the file is read than there may be: damage, or joined streams of different kinds."""

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


@dataclasses.dataclass(frozen=True)
class Part:
    """A decoded part of a recording."""

    wave: Float[np.ndarray, "T"]
    """At 16 kHz, in [-1, 1]."""
    rate: int
    """Hz of the source."""
    continues: bool
    """Whether the recording continues after the part."""
    power: float
    """Mean square of the source without its offset."""
    above_band: float
    """Share of the power above 8 kHz, which is lost at 16 kHz."""
    notice: str
    """As in `AudioInfo`."""

    @property
    def is_ultrasound(self) -> bool:
        """Whether most of the energy is lost at 16 kHz."""
        return self.above_band > 0.5


def powers(samples: Float[np.ndarray, "T"], rate: int, resampled: Float[np.ndarray, "T2"]) -> tuple[float, float]:
    """Power of a signal, and how much of it resampling removes.

    Args:
      samples: at `rate` Hz.
      rate: of the source.
      resampled: the same signal at 16 kHz.

    Returns:
      Mean square without offset, and the share of it that is lost at 16 kHz.
    """
    before, after = (float(x @ x) / x.size for x in (samples - samples.mean(), resampled - resampled.mean()))
    return before, max(0.0, 1.0 - after / before) if rate > SAMPLE_RATE and before > 0 else 0.0


def ultrasound_notice(count: int) -> str:
    """A sentence about `count` recordings that are mostly ultrasound, for the end of a run; "" if there are none."""
    if not count:
        return ""
    return (
        f"{count} recording{' has' if count == 1 else 's have'} most of the energy above 8 kHz, lost at 16 kHz: "
        "play ultrasound more slowly (as in time expansion) if the model is to use it"
    )
