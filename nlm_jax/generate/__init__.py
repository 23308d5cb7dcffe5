"""Answers: prompts into batches, decoding in one compiled loop, the `NatureLM` facade, long recordings."""

from nlm_jax.core.lazy import lazily

NAMES = {"Engine": "nlm_jax.generate.engine", "GenerationOptions": "nlm_jax.generate.options"}
NAMES |= {"NatureLM": "nlm_jax.generate.api"}
__getattr__, __all__ = lazily(__name__, NAMES), list(NAMES)
