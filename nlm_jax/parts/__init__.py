"""One part of the model with its weights, on its own: the encoder, the Q-Former, the language model."""
