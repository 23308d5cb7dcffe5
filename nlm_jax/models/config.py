"""Sizes and settings of the whole model."""

import dataclasses
from typing import Literal

from nlm_jax.core.chat import DEFAULT_END_SYM, DEFAULT_TEMPLATE
from nlm_jax.models.beats.config import BeatsConfig
from nlm_jax.models.llama.config import LlamaConfig
from nlm_jax.models.qformer.config import QFormerConfig


@dataclasses.dataclass(frozen=True)
class NatureLMConfig:
    """Everything that defines the model's function of (weights, audio, text)."""

    beats: BeatsConfig = dataclasses.field(default_factory=BeatsConfig)
    qformer: QFormerConfig = dataclasses.field(default_factory=QFormerConfig)
    llama: LlamaConfig = dataclasses.field(default_factory=LlamaConfig)
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    remat: str = "none"
    attention: Literal["auto", "xla", "cudnn", "splash"] = "xla"
    """Of the language model over packed rows, see `nn.attention`; training settles "auto". Generation has its own."""
    end_sym: str = DEFAULT_END_SYM
    prompt_template: str = DEFAULT_TEMPLATE
    max_txt_len: int = 160
    """Answers are cut here, in tokens, the end symbol included: a cut answer has none."""
