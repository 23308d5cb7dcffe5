"""NatureLM-audio in JAX: an audio-language foundation model for bioacoustics."""

from nlm_jax.core.lazy import lazily

__version__ = "0.1.0"
__all__ = ["GenerationOptions", "NatureLM", "TrainConfig", "UserError", "__version__", "train_set"]

# Lazy, so that `import nlm_jax` and the data tools do not pay for the model.
__getattr__ = lazily(
    __name__,
    {
        "GenerationOptions": "nlm_jax.generate.options",
        "NatureLM": "nlm_jax.generate.api",
        "TrainConfig": "nlm_jax.train.config",
        "UserError": "nlm_jax.core.errors",
        "train_set": "nlm_jax.data.pipeline",
        "data": "nlm_jax.data",
        "generate": "nlm_jax.generate",
        "models": "nlm_jax.models",
        "train": "nlm_jax.train",  # a package: the function is nlm_jax.train.train
    },
)
