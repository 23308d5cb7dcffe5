"""BEATs audio encoder (Microsoft, iter3+ fine-tuned on AudioSet)."""
