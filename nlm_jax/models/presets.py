"""Named configurations."""

import dataclasses

from nlm_jax.core.errors import UserError
from nlm_jax.models.beats.config import BeatsConfig
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.models.llama.config import LlamaConfig
from nlm_jax.models.qformer.config import QFormerConfig
from nlm_jax.nn.linear import LoraConfig
from nlm_jax.nn.rope import RopeScaling

_LLAMA = {
    "llama-3.2-1b": LlamaConfig(
        width=2048, layers=16, head_dim=64, mlp=8192, tied=True, rope_scaling=RopeScaling("llama3", 32.0)
    ),
    "llama-3.2-3b": LlamaConfig(
        width=3072, layers=28, heads=24, mlp=8192, tied=True, rope_scaling=RopeScaling("llama3", 32.0)
    ),
    "llama-3.1-8b": LlamaConfig(),
    "llama-3.1-70b": LlamaConfig(width=8192, layers=80, heads=64, mlp=28672),
}

_TINY = NatureLMConfig(
    beats=BeatsConfig(patch_dim=32, width=64, layers=3, heads=4, mlp=128, predictor_classes=527),
    qformer=QFormerConfig(width=64, heads=4, mlp=128),
    llama=LlamaConfig(vocab=512, width=64, layers=3, heads=4, kv_heads=2, head_dim=16, mlp=160),
)

NAMES = ("tiny", *_LLAMA)


def preset(name: str) -> NatureLMConfig:
    """The configuration of that name: "tiny" or an LLM in `NAMES`, optionally with the suffix "-no-pad".

    The official checkpoints have one embedding row more than the LLM, for [PAD]; "-no-pad" is the LLM without it.
    LoRA is rank 32, alpha 32, dropout 0.1 (rank 4, alpha 8 for "tiny").

    Raises:
      UserError: an unknown name.
    """
    base = name.removesuffix("-no-pad")
    if base not in NAMES:
        raise UserError(
            f"model preset {name!r} is unknown; use one of {', '.join(NAMES)}, optionally with -no-pad added"
        )
    cfg = _TINY if base == "tiny" else NatureLMConfig(llama=_LLAMA[base])
    lora = LoraConfig(rank=4, alpha=8.0) if base == "tiny" else LoraConfig()
    rows = cfg.llama.vocab + (0 if name.endswith("-no-pad") else 1)
    return dataclasses.replace(cfg, llama=dataclasses.replace(cfg.llama, vocab=rows, lora=lora))
