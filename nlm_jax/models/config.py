"""Sizes and settings of the whole model."""

import dataclasses
import math
from typing import Literal

from nlm_jax.audio.config import AudioConfig
from nlm_jax.core.chat import DEFAULT_END_SYM, DEFAULT_TEMPLATE
from nlm_jax.core.errors import UserError
from nlm_jax.models.beats.config import BeatsConfig
from nlm_jax.models.llama.config import LlamaConfig
from nlm_jax.models.qformer.config import QFormerConfig
from nlm_jax.nn.stack import REMAT


@dataclasses.dataclass(frozen=True)
class NatureLMConfig:
    """Everything besides the weights that the model's output depends on."""

    audio: AudioConfig = dataclasses.field(default_factory=AudioConfig)
    beats: BeatsConfig = dataclasses.field(default_factory=BeatsConfig)
    qformer: QFormerConfig = dataclasses.field(default_factory=QFormerConfig)
    llama: LlamaConfig = dataclasses.field(default_factory=LlamaConfig)
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    remat: str = "none"
    attention: Literal["auto", "xla", "cudnn", "splash"] = "xla"
    """Implementation for the language model over packed rows, see `nn.attention`; training resolves "auto". Generation
    does not use it."""
    end_sym: str = DEFAULT_END_SYM
    prompt_template: str = DEFAULT_TEMPLATE
    max_txt_len: int = 160
    """Maximum length of an answer in tokens, the end symbol included; an answer that is cut has no end symbol."""


def check(cfg: NatureLMConfig, where: str) -> NatureLMConfig:
    """Returns `cfg` if its sizes are consistent.

    Args:
      cfg: sizes of a model.
      where: the name of `cfg` in messages.

    Raises:
      UserError: a size below 1, a rate outside [0, 1), heads or groups that do not divide their width, a template
        without `{}`.
    """
    beats, qformer, llama = cfg.beats, cfg.qformer, cfg.llama
    parts = {"beats": beats, "qformer": qformer, "llama": llama, "llama.lora": llama.lora}
    for part, sizes in parts.items():
        for name, value in dataclasses.asdict(sizes).items() if sizes else ():
            if isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise UserError(f"{where}: {part}.{name}={value} must be at least 1")
            if name in ("layerdrop", "dropout") and not 0 <= value < 1:
                raise UserError(f"{where}: {part}.{name}={value} must lie in [0, 1)")
    for name in ("kernel", "stride"):
        if getattr(qformer, name) < 1:
            raise UserError(f"{where}: windows and their stride must hold at least one token, about 0.02 seconds")
    for name, total, divisor in (
        ("beats.heads", beats.width, beats.heads),
        ("beats.conv_groups", beats.width, beats.conv_groups),
        ("qformer.heads", qformer.width, qformer.heads),
        ("llama.kv_heads", llama.heads, llama.kv_heads),
    ):
        if total % divisor:
            raise UserError(f"{where}: {name}={divisor} does not divide {total}")
    check_audio(cfg.audio, f"{where}: audio")
    if cfg.remat not in REMAT:
        raise UserError(f"{where}: remat={cfg.remat!r} must be one of {', '.join(REMAT)}")
    if cfg.max_txt_len < 1 or "{}" not in cfg.prompt_template:
        raise UserError(f"{where}: max_txt_len must be at least 1, and prompt_template contain {{}} for the prompt")
    return cfg


def check_audio(audio: AudioConfig, where: str) -> AudioConfig:
    """Returns `audio`. Raises UserError unless the length of its clips is positive."""
    if not 0 < audio.seconds < math.inf:
        raise UserError(f"{where}: seconds={audio.seconds} must be positive")
    return audio
