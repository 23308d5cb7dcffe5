"""Names of activations (`checkpoint_name`) by which remat policies save them."""

ATTENTION = "attention"
"""What attention mixed, before its output projection."""
MLP = "mlp"
"""The inner activations of the language model's feed-forward part. BEATs' are computed again: a clip has 496 tokens."""
