"""NatureLM-audio in JAX: an audio-language foundation model for bioacoustics."""

__version__ = "0.1.0"
__all__ = ["NatureLM", "UserError", "__version__"]


def __getattr__(name: str):
    # Lazy, so that `import nlm_jax` and the data tools do not pay for the model.
    if name == "NatureLM":
        from nlm_jax.generate.api import NatureLM

        return NatureLM
    if name == "UserError":
        from nlm_jax.core.errors import UserError

        return UserError
    raise AttributeError(f"module 'nlm_jax' has no attribute {name!r}")
