"""Training: what trains, how it is updated, what is saved, and the loop that does it."""

from nlm_jax.core.lazy import lazily

NAMES = {
    "TrainConfig": "nlm_jax.train.config",
    "Stage": "nlm_jax.train.config",
    "train_config": "nlm_jax.train.config",
    "train": "nlm_jax.train.loop",
}
__getattr__, __all__ = lazily(__name__, NAMES), list(NAMES)
