"""Insertion of clip vectors at the placeholders of a prompt."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def splice(
    text: Float[Array, "B S D"], vectors: Float[Array, "B AW D"], audio_slot: Int[Array, "B S"]
) -> Float[Array, "B S D"]:
    """Input embeddings: `vectors[b, audio_slot]` where `audio_slot` >= 0, else the text embedding.

    Any number of clips per example and examples per row; rows never exchange vectors, so the batch axis shards freely.
    """
    picked = jnp.take_along_axis(vectors, jnp.maximum(audio_slot, 0)[..., None], axis=1)
    return jnp.where((audio_slot >= 0)[..., None], picked.astype(text.dtype), text)
