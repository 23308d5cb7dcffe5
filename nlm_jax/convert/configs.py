"""Config files of others <-> our dataclasses. What ours do not hold is carried along and written back unchanged."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from nlm_jax.convert.audio import audio_config, audio_json
from nlm_jax.convert.io import read_json
from nlm_jax.convert.table import ADAPTED
from nlm_jax.core.config import build
from nlm_jax.core.errors import UserError
from nlm_jax.models.beats.config import BeatsConfig
from nlm_jax.models.config import NatureLMConfig, check
from nlm_jax.models.llama.config import LlamaConfig
from nlm_jax.models.qformer.config import QFormerConfig
from nlm_jax.nn.linear import LoraConfig
from nlm_jax.nn.rope import RopeScaling

Json = dict[str, Any]

BEATS_FIELDS = {
    "embed_dim": "patch_dim",
    "encoder_embed_dim": "width",
    "encoder_layers": "layers",
    "encoder_attention_heads": "heads",
    "encoder_ffn_embed_dim": "mlp",
    "num_buckets": "buckets",
    "max_distance": "max_distance",
    "conv_pos": "conv_taps",
    "conv_pos_groups": "conv_groups",
    "layer_wise_gradient_decay_ratio": "grad_decay",
    "encoder_layerdrop": "layerdrop",
}
BEATS_FIXED = {
    "activation_fn": "gelu",
    "conv_bias": False,
    "deep_norm": True,
    "gru_rel_pos": True,
    "input_patch_size": 16,
    "layer_norm_first": False,
    "relative_position_embedding": True,
}
"""Settings of BEATs that change its function and exist here with one value only."""
BEATS_DROPOUTS = ("activation_dropout", "attention_dropout", "dropout", "dropout_input", "predictor_dropout")

QFORMER_FIELDS = {
    "hidden_size": "width",
    "num_attention_heads": "heads",
    "intermediate_size": "mlp",
    "num_hidden_layers": "layers",
    "layer_norm_eps": "eps",
    "hidden_dropout_prob": "dropout",
}
OFFICIAL_FIXED = {"use_audio_Qformer": True, "window_level_Qformer": True, "max_pooling": False}
OFFICIAL_DEFAULTS: Json = {
    "audio_encoding_cache_size": 100,
    "audio_llama_proj_model": None,
    "beats_path": None,
    "device": "cuda",
    "downsample_factor": 8,
    "flash_attn": "eager",
    "freeze_audio_QFormer": False,
    "freeze_audio_llama_proj": False,
    "freeze_beats": False,
    "llama_path": "llama",
}
"""Fields of the official config besides the architecture, for weights that did not come from it."""

ARCHITECTURES = ("llama", "mistral")


def _reject(values: Mapping, fixed: Mapping, where: str) -> None:
    for name, only in fixed.items():
        if values.get(name, only) != only:
            raise UserError(f"{where}: {name}={values[name]!r} is not supported; the model here has {only!r}")


def _take(values: Mapping, names: Mapping[str, str]) -> Json:
    return {ours: values[theirs] for theirs, ours in names.items() if values.get(theirs) is not None}


def beats_config(cfg: Mapping, where: str = "beats_cfg") -> BeatsConfig:
    """From Microsoft's `cfg` dict. Its dropouts are not used: the released encoders have none.

    Raises:
      UserError: a variant of BEATs that the model here does not have.
    """
    _reject(cfg, BEATS_FIXED, where)
    classes = cfg.get("predictor_class", 527) if cfg.get("finetuned_model", False) else None
    return build(BeatsConfig, _take(cfg, BEATS_FIELDS) | {"predictor_classes": classes}, where)


def beats_json(cfg: BeatsConfig, carried: Mapping | None = None) -> Json:
    """Microsoft's `cfg` dict; `carried` is the one the weights came with."""
    out = dict.fromkeys(BEATS_DROPOUTS, 0.0) | {"predictor_class": 527} | dict(carried or {}) | BEATS_FIXED
    out |= {theirs: getattr(cfg, ours) for theirs, ours in BEATS_FIELDS.items()}
    out["finetuned_model"] = cfg.predictor_classes is not None
    return out | ({"predictor_class": cfg.predictor_classes} if cfg.predictor_classes else {})


def qformer_config(source: Any, official: Mapping) -> QFormerConfig:
    """The Q-Former of a checkpoint: its sizes from a BERT-like config (path or dict; bert-base-uncased's with 2 layers
    when None, since the official config does not hold them), its queries and windows from the official config."""
    where = str(source) if isinstance(source, str | pathlib.Path) else "qformer_config"
    if source is not None and not isinstance(source, str | pathlib.Path | Mapping):
        raise UserError(
            f"qformer_config={source!r}: give the path of a BERT-like config.json, or a dict with its sizes"
        )
    sizes = read_json(pathlib.Path(source)) if isinstance(source, str | pathlib.Path) else dict(source or {})
    _reject(sizes, {"hidden_act": "gelu", "cross_attention_freq": 1}, where)
    own = {f.name: sizes[f.name] for f in dataclasses.fields(QFormerConfig) if f.name in sizes}
    windows = {
        "num_audio_query_token": "queries",
        "second_per_window": "window_seconds",
        "second_stride": "stride_seconds",
    }
    return build(QFormerConfig, _take(sizes, QFORMER_FIELDS) | own | _take(official, windows), where)


def llama_config(hf: Mapping, where: str, *, rows: int | None = None, lora: LoraConfig | None = None) -> LlamaConfig:
    """From a Hugging Face `config.json`, of transformers 4 or 5.

    Args:
      hf: the file's content.
      where: what to call it in a message.
      rows: of the vocabulary, if it is not the config's own (the appended [PAD]).
      lora: the adapter on it.

    Raises:
      UserError: another architecture, a RoPE scaling or an activation that is not supported, a size that is missing.
    """
    kind = hf.get("model_type", "llama")
    if kind not in ARCHITECTURES:
        raise UserError(
            f"{where}: model_type {kind!r} is not of the Llama family; supported: {', '.join(ARCHITECTURES)}"
        )
    _reject(hf, {"hidden_act": "silu", "partial_rotary_factor": 1.0}, where)
    if kind == "mistral":
        _reject({"sliding_window": 4096, **hf}, {"sliding_window": None}, where)  # transformers' default there
    if odd := sorted({str(kind) for kind in hf.get("layer_types") or ()} - {"full_attention"}):
        raise UserError(f"{where}: layer_types holds {odd[0]!r}, which is not supported; here all attention is full")
    sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    for name in sizes:
        if hf.get(name) is None:
            raise UserError(f"{where}: {name} is missing; this is no complete config.json of a Hugging Face Llama")
    for name in (*sizes, "num_key_value_heads", "head_dim", "max_position_embeddings"):
        value = hf.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise UserError(f"{where}: {name}={value!r} must be a whole number of at least 1")
    heads = hf["num_attention_heads"]
    if heads % (hf.get("num_key_value_heads") or heads):
        raise UserError(
            f"{where}: num_key_value_heads={hf['num_key_value_heads']} does not divide num_attention_heads={heads}"
        )
    if (hf.get("head_dim") or hf["hidden_size"] // heads) % 2 or (not hf.get("head_dim") and hf["hidden_size"] % heads):
        raise UserError(
            f"{where}: heads of an even size are needed, not hidden_size={hf['hidden_size']} among {heads} heads with "
            f"head_dim={hf.get('head_dim')}"
        )
    theta, scaling = _rope(hf, where)
    values = {
        "vocab": hf["vocab_size"] if rows is None else rows,
        "width": hf["hidden_size"],
        "layers": hf["num_hidden_layers"],
        "heads": heads,
        "kv_heads": hf.get("num_key_value_heads") or heads,
        "head_dim": hf.get("head_dim") or hf["hidden_size"] // heads,
        "mlp": hf["intermediate_size"],
        "eps": hf.get("rms_norm_eps", 1e-6),
        "rope_theta": theta,
        "rope_scaling": scaling,
        "tied": hf.get("tie_word_embeddings", False),
        "attention_bias": hf.get("attention_bias", False),
        "mlp_bias": hf.get("mlp_bias", False),
        "max_positions": hf.get("max_position_embeddings", 2048),
        "lora": lora,
    }
    return build(LlamaConfig, values, where)


def _rope(hf: Mapping, where: str) -> tuple[float, RopeScaling | None]:
    """Theta and scaling, from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (4)."""
    for name in ("rope_parameters", "rope_scaling"):
        if not isinstance(hf.get(name) or {}, Mapping):
            raise UserError(f"{where}: {name}={hf[name]!r} must be an object with a rope_type")
    rope = hf.get("rope_parameters") or {"rope_theta": hf.get("rope_theta"), **(hf.get("rope_scaling") or {})}
    theta = rope.get("rope_theta") or hf.get("rope_theta") or 10000.0
    if not isinstance(theta, int | float) or theta <= 0:
        raise UserError(f"{where}: rope_theta={theta!r} must be a number above 0")
    theta, kind = float(theta), rope.get("rope_type", rope.get("type", "default"))
    if odd := [key for key in rope if key in ("full_attention", "sliding_attention")]:
        raise UserError(f"{where}: rope_parameters of their own for {odd[0]} layers are not supported; give one set")
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise UserError(f"{where}: partial_rotary_factor={rope['partial_rotary_factor']} is not supported, only 1.0 is")
    if kind == "default":
        return theta, None
    if kind not in ("llama3", "linear"):
        raise UserError(f"{where}: RoPE scaling of type {kind!r} is not supported; llama3, linear and default are")
    names = {
        "factor": "factor",
        "low_freq_factor": "low_freq_factor",
        "high_freq_factor": "high_freq_factor",
        "original_max_position_embeddings": "original_max_positions",
    }
    if lacking := [name for name in names if kind == "llama3" and rope.get(name) is None]:
        raise UserError(f"{where}: RoPE scaling of type 'llama3' lacks {lacking[0]}")
    scaling = build(RopeScaling, _take(rope, names) | {"kind": kind}, f"{where}: rope_scaling")
    if not scaling.factor > 0 or not 0 < scaling.low_freq_factor < scaling.high_freq_factor:
        raise UserError(f"{where}: RoPE scaling needs factor > 0 and 0 < low_freq_factor < high_freq_factor: {rope}")
    return theta, scaling


def llama_json(cfg: LlamaConfig, carried: Mapping | None = None, *, rows: int | None = None) -> Json:
    """A Hugging Face `config.json`, in transformers 4's spelling, which both versions read.

    `carried` is the one the weights came with; `rows` the size of the vocabulary if it is not the config's.
    """
    rows = cfg.vocab if rows is None else rows
    if carried and llama_config(carried, "", rows=cfg.vocab, lora=cfg.lora) == cfg:
        return dict(carried) | {"vocab_size": rows}
    scaling = None
    if cfg.rope_scaling:
        s = cfg.rope_scaling
        scaling = {"rope_type": s.kind, "factor": s.factor}
        if s.kind == "llama3":
            scaling |= {"low_freq_factor": s.low_freq_factor, "high_freq_factor": s.high_freq_factor}
            scaling["original_max_position_embeddings"] = s.original_max_positions
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": cfg.attention_bias,
        "attention_dropout": 0.0,
        "head_dim": cfg.head_dim,
        "hidden_act": "silu",
        "hidden_size": cfg.width,
        "initializer_range": 0.02,
        "intermediate_size": cfg.mlp,
        "max_position_embeddings": cfg.max_positions,
        "mlp_bias": cfg.mlp_bias,
        "model_type": "llama",
        "num_attention_heads": cfg.heads,
        "num_hidden_layers": cfg.layers,
        "num_key_value_heads": cfg.kv_heads,
        "rms_norm_eps": cfg.eps,
        "rope_scaling": scaling,
        "rope_theta": cfg.rope_theta,
        "tie_word_embeddings": cfg.tied,
        "use_cache": True,
        "vocab_size": rows,
    }


def naturelm_config(official: Mapping, llama: LlamaConfig, qformer: QFormerConfig, where: str) -> NatureLMConfig:
    """From the official `config.json`. The adapter is part of `llama` already (see `lora_config`).

    Raises:
      UserError: a variant of the model that does not exist here.
    """
    _reject(official, OFFICIAL_FIXED, where)
    beats = official.get("beats_cfg")
    if not isinstance(beats or {}, Mapping):
        raise UserError(f"{where}: beats_cfg must hold the encoder's sizes by name, is {str(beats)[:80]}")
    values = {
        "beats": beats_config(beats, f"{where}: beats_cfg") if beats else BeatsConfig(),
        "qformer": qformer,
        "llama": llama,
        "audio": audio_config(official, where),
        **_take(official, {"end_sym": "end_sym", "prompt_template": "prompt_template", "max_txt_len": "max_txt_len"}),
    }
    return check(build(NatureLMConfig, values, where), where)


def lora_config(official: Mapping, where: str) -> LoraConfig | None:
    """The adapter of an official config, None if it has none."""
    if not official.get("lora", True):
        return None
    names = {"lora_rank": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout"}
    return build(LoraConfig, _take(official, names), where)


def official_json(cfg: NatureLMConfig, carried: Mapping | None = None) -> Json:
    """The official class's `config.json`; `carried` is the one the weights came with. It has no Q-Former sizes."""
    lora = cfg.llama.lora
    out = OFFICIAL_DEFAULTS | audio_json(carried or {}, cfg.audio) | OFFICIAL_FIXED
    out |= {"lora_rank": 32, "lora_alpha": 32, "lora_dropout": 0.1} if lora is None and not carried else {}
    out |= {
        "beats_cfg": beats_json(cfg.beats, (carried or {}).get("beats_cfg")),
        "num_audio_query_token": cfg.qformer.queries,
        "second_per_window": cfg.qformer.window_seconds,
        "second_stride": cfg.qformer.stride_seconds,
        "end_sym": cfg.end_sym,
        "prompt_template": cfg.prompt_template,
        "max_txt_len": cfg.max_txt_len,
        "lora": lora is not None,
    }
    if lora:
        out |= {"lora_rank": lora.rank, "lora_alpha": _whole(lora.alpha), "lora_dropout": lora.dropout}
    return out


def qformer_json(cfg: QFormerConfig) -> Json:
    """The BERT-like config the official code takes the Q-Former's sizes from."""
    sizes = {theirs: getattr(cfg, ours) for theirs, ours in QFORMER_FIELDS.items()}
    return sizes | {"attention_probs_dropout_prob": cfg.dropout, "cross_attention_freq": 1, "hidden_act": "gelu"}


def adapter_json(lora: LoraConfig, base: str) -> Json:
    """PEFT's `adapter_config.json` for an adapter on the Llama called `base`."""
    return {
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": _whole(lora.alpha),
        "lora_dropout": lora.dropout,
        "peft_type": "LORA",
        "r": lora.rank,
        "target_modules": sorted(ADAPTED),
        "task_type": "CAUSAL_LM",
        "use_rslora": False,
    }


def _whole(value: float) -> int | float:
    return int(value) if float(value).is_integer() else value
