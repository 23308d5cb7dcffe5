"""Single parts of the model with their weights: the encoder, the Q-Former, the language model."""
