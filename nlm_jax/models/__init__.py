"""NatureLM-audio: BEATs encoder, window-level Q-Former, Llama decoder with LoRA. `XModel` is the Flax module of `X`."""

from nlm_jax.core.lazy import lazily

NAMES = {"Beats": "nlm_jax.parts.beats", "QFormer": "nlm_jax.parts.qformer", "Llama": "nlm_jax.parts.llama"}
NAMES |= {"NatureLMModel": "nlm_jax.models.naturelm", "NatureLMConfig": "nlm_jax.models.config"}
NAMES |= {"BeatsModel": "nlm_jax.models.beats.model", "BeatsConfig": "nlm_jax.models.beats.config"}
NAMES |= {"QFormerModel": "nlm_jax.models.qformer.model", "QFormerConfig": "nlm_jax.models.qformer.config"}
NAMES |= {"LlamaModel": "nlm_jax.models.llama.model", "LlamaConfig": "nlm_jax.models.llama.config"}
__getattr__, __all__ = lazily(__name__, NAMES), list(NAMES)
