"""`Batch`: the one contract between the data pipeline and the model."""

import dataclasses
import functools
from typing import Any

import jax

Leaf = Any
"""numpy on the host, a jax array on devices, a tracer or a sharding inside transforms."""

FIELDS = (
    "audio",
    "audio_length",
    "tokens",
    "positions",
    "segments",
    "audio_slot",
    "answer_index",
    "targets",
    "weights",
    "answer_segment",
)


@functools.partial(jax.tree_util.register_dataclass, data_fields=FIELDS, meta_fields=())
@dataclasses.dataclass(frozen=True)
class Batch:
    """Packed rows. The first axis of every leaf is the rows B, which is the axis that is sharded.

    A row holds several examples one after another. `audio_slot` points into the row's own A * W * Q clip vectors
    (clip a, vector w -> a * W * Q + w), so that no vector ever crosses a row.
    """

    audio: Leaf
    """f32[B, A, T]: waveforms at 16 kHz in [-1, 1], zero-padded; unused slots are zero."""
    audio_length: Leaf
    """i32[B, A]: valid samples, for the encoder's padding mask; T in training, where the reference masks nothing."""
    tokens: Leaf
    """i32[B, S]: token ids; 0 at clip vectors and at padding."""
    positions: Leaf
    """i32[B, S]: position within the example, from 0."""
    segments: Leaf
    """i32[B, S]: 0 = padding, 1.. = example within the row."""
    audio_slot: Leaf
    """i32[B, S]: clip vector inserted at this position, -1 = text."""
    answer_index: Leaf
    """i32[B, M]: position whose logits predict the target (the one before it); 0 if unused."""
    targets: Leaf
    """i32[B, M]: token to predict at that position."""
    weights: Leaf
    """f32[B, M]: 1 = target, 0 = unused."""
    answer_segment: Leaf
    """i32[B, M]: example the target belongs to, 0 = unused."""

    @property
    def rows(self) -> int:
        """Number of rows B."""
        return self.tokens.shape[0]

    @property
    def clips(self) -> int:
        """Clip slots per row A."""
        return self.audio.shape[1]

    @property
    def length(self) -> int:
        """Positions per row S."""
        return self.tokens.shape[1]

    def as_dict(self) -> dict[str, Leaf]:
        """Field name -> array."""
        return {name: getattr(self, name) for name in FIELDS}
