"""Frames, patch tokens and windows of a waveform: integer arithmetic that the data pipeline and the model share.

Source: the Kaldi filter bank (25 ms window, 10 ms hop, snip_edges), BEATs' 16x16 patches, the window-level Q-Former.
"""

FRAME_LENGTH, FRAME_SHIFT = 400, 160  # samples: 25 ms and 10 ms at 16 kHz
PATCH = 16  # frames and mel bins of one patch
MEL_BINS = 128
PATCHES_PER_STEP = MEL_BINS // PATCH


def n_frames(samples: int) -> int:
    """Filter-bank frames of `samples` samples at 16 kHz (0 if shorter than one frame)."""
    return max(0, 1 + (samples - FRAME_LENGTH) // FRAME_SHIFT)


def n_tokens(samples: int) -> int:
    """Encoder tokens P of `samples` samples: 8 for every 16 whole frames."""
    return PATCHES_PER_STEP * (n_frames(samples) // PATCH)


def used_samples(samples: int) -> int:
    """The fewest samples that make as many encoder tokens as `samples` do: samples after them do not affect any."""
    frames = n_frames(samples) // PATCH * PATCH
    return FRAME_LENGTH + FRAME_SHIFT * (frames - 1) if frames else samples


def window_tokens(seconds: float) -> int:
    """Tokens of a Q-Former window or stride of `seconds`.

    The reference counts 1500 tokens to 30 s, a figure inherited from another encoder; BEATs produces 49.6 per second.
    Python's half-to-even rounding is part of the definition.
    """
    return round(1500 * seconds / 30.0)


def n_windows(samples: int, kernel: int = 17, stride: int = 17) -> int:
    """Q-Former windows W of `samples` samples; 0 if they do not fill one window (the reference fails there)."""
    tokens = n_tokens(samples)
    return 0 if tokens < kernel else (tokens - kernel) // stride + 1
