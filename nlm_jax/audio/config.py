"""How recordings become a model's clips."""

import dataclasses

from nlm_jax.audio.resample import Quality
from nlm_jax.core.dims import SAMPLE_RATE


@dataclasses.dataclass(frozen=True)
class AudioConfig:
    """How a recording was made a clip in training: part of the checkpoint, since every answer must do it alike."""

    seconds: float = 10.0
    """Length of a clip: longer recordings are cut, shorter ones zero-padded, and nothing is masked."""
    quality: Quality = "HQ"
    """Filter that resamples to 16 kHz what is at another rate."""

    @property
    def samples(self) -> int:
        """T: samples of a clip at 16 kHz."""
        return round(self.seconds * SAMPLE_RATE)
