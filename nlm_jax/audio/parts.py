"""What is known of a recording and of its decoded parts."""

import dataclasses

import numpy as np
from jaxtyping import Float

from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError


class BehindEnd(UserError):
    """The recording has ended before the part begins."""


@dataclasses.dataclass(frozen=True)
class AudioInfo:
    """What a file holds; its length is not what the header claims but what can be decoded."""

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
    goes_on: bool
    """Whether the recording has more than this behind it."""
    power: float
    """Mean square of the source without its offset."""
    above_band: float
    """Share of that above 8 kHz, which is lost at 16 kHz."""
    notice: str
    """As of `AudioInfo`."""

    @property
    def is_ultrasound(self) -> bool:
        """Whether most of the energy is lost at 16 kHz."""
        return self.above_band > 0.5


def powers(samples: Float[np.ndarray, "T"], rate: int, resampled: Float[np.ndarray, "T2"]) -> tuple[float, float]:
    """Mean square, without offset, of samples at `rate` Hz, and the share of it that is lost at 16 kHz."""
    before, after = (float(x @ x) / x.size for x in (samples - samples.mean(), resampled - resampled.mean()))
    return before, max(0.0, 1.0 - after / before) if rate > SAMPLE_RATE and before > 0 else 0.0


def ultrasound_notice(count: int) -> str:
    """The sentence about recordings whose parts are ultrasound, for the end of a run; "" without any."""
    if not count:
        return ""
    return (
        f"{count} recording{' has' if count == 1 else 's have'} most of the energy above 8 kHz, lost at 16 kHz: "
        "play ultrasound more slowly (as in time expansion) if it is to be heard"
    )
