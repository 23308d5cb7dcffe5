"""Sizes of a Llama-family decoder."""

import dataclasses

from nlm_jax.nn.linear import LoraConfig
from nlm_jax.nn.rope import RopeScaling


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
    """Defaults are Llama 3.1-8B without adapter and without the extra [PAD] row."""

    vocab: int = 128256
    width: int = 4096
    layers: int = 32
    heads: int = 32
    kv_heads: int = 8
    head_dim: int = 128
    mlp: int = 14336
    eps: float = 1e-5
    rope_theta: float = 500000.0
    rope_scaling: RopeScaling | None = dataclasses.field(default_factory=lambda: RopeScaling("llama3", 8.0))
    tied: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    max_positions: int = 131072
    lora: LoraConfig | None = None
