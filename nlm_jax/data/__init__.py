"""Prepared corpora to batches: schema, shards, text, mixture, packing, pipeline."""

from nlm_jax.core.lazy import lazily

NAMES = {"AugmentConfig": "nlm_jax.data.config", "DataConfig": "nlm_jax.data.config"}
NAMES |= {"Corpus": "nlm_jax.data.dataset", "Format": "nlm_jax.data.text", "Tokenizer": "nlm_jax.data.text"}
NAMES |= {"train_set": "nlm_jax.data.pipeline"}
__getattr__, __all__ = lazily(__name__, NAMES), list(NAMES)
