"""Sizes of the window-level Q-Former."""

import dataclasses

from nlm_jax.core.frames import n_windows, window_tokens


@dataclasses.dataclass(frozen=True)
class QFormerConfig:
    """Defaults are bert-base-uncased's with 2 layers, which the released checkpoints use without storing them."""

    width: int = 768
    heads: int = 12
    mlp: int = 3072
    layers: int = 2
    eps: float = 1e-12
    queries: int = 1
    dropout: float = 0.1
    """Dropout rate of embeddings, attention probabilities and sub-layer outputs, in training only."""
    window_seconds: float = 0.333333
    stride_seconds: float = 0.333333

    @property
    def kernel(self) -> int:
        """Encoder tokens per window."""
        return window_tokens(self.window_seconds)

    @property
    def stride(self) -> int:
        """Encoder tokens from one window to the next."""
        return window_tokens(self.stride_seconds)

    def vectors(self, samples: int) -> int:
        """The number of vectors, W * Q, of a clip of `samples` samples at 16 kHz."""
        return n_windows(samples, self.kernel, self.stride) * self.queries
