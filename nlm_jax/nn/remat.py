"""Names of activations (`checkpoint_name`) that remat policies refer to."""

ATTENTION = "attention"
"""Output of attention, before its output projection."""
MLP = "mlp"
"""Inner activations of the language model's MLP. Those of BEATs are always recomputed: a clip has only 496 tokens."""
