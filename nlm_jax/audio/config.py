"""How recordings become clips."""

import dataclasses

from nlm_jax.audio.resample import Quality
from nlm_jax.core.dims import CLIP_SECONDS, SAMPLE_RATE


@dataclasses.dataclass(frozen=True)
class AudioConfig:
    """How recordings became clips in training: part of the checkpoint, since inference must use the same settings."""

    seconds: float = CLIP_SECONDS
    """Length of a clip: longer recordings are cut, shorter ones zero-padded, and nothing is masked."""
    quality: Quality = "HQ"
    """Filter that resamples recordings to 16 kHz."""

    @property
    def samples(self) -> int:
        """T: samples of a clip at 16 kHz."""
        return round(self.seconds * SAMPLE_RATE)
