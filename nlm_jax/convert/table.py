"""The one table between the names of the PyTorch world and ours, read in both directions.

A rule says: the tensor called `name` there is the leaf at `path` here, after `op`. `{i}` in a name is the layer; our
layers are stacked, so source layer i is slice i of the leaf's leading axis. Microsoft's BEATs names, Hugging Face's
Llama names and PEFT's adapter names are written down once; the official NatureLM names are those with prefixes.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nlm_jax.core.frames import PATCH
from nlm_jax.models.beats.config import BeatsConfig
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.models.llama.config import LlamaConfig


@dataclasses.dataclass(frozen=True)
class Op:
    """How one tensor changes on the way in, and back; on numpy or jax arrays. `ours` gives a view, never a copy."""

    name: str
    ours: Callable[[Any], Any]
    theirs: Callable[[Any], Any]

    def their_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape in the file of a tensor that has `shape` here."""
        return jax.eval_shape(self.theirs, jax.ShapeDtypeStruct(shape, jnp.float32)).shape


SAME = Op("same", lambda x: x, lambda x: x)
TRANSPOSE = Op("transpose", lambda x: x.T, lambda x: x.T)
PATCHES = Op("patches", lambda x: x.reshape(x.shape[0], -1).T, lambda x: x.T.reshape(-1, 1, PATCH, PATCH))
"""Convolution kernel [C, 1, 16, 16] <-> matrix [256, C]."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """One line of the table.

    `duplicates` are further names of the same tensor in a full state dict; `{i}` there runs over the layers.
    """

    name: str
    path: str
    op: Op = SAME
    duplicates: tuple[str, ...] = ()

    @property
    def stacked(self) -> bool:
        return "{i}" in self.name

    def at(self, layer: int | None) -> str:
        return self.name.format(i=layer) if self.stacked else self.name

    def renamed(self, change: Callable[[str], str]) -> "Rule":
        return dataclasses.replace(self, name=change(self.name), duplicates=tuple(map(change, self.duplicates)))


@dataclasses.dataclass(frozen=True)
class Match:
    """Target of a name of the file: a slice of a leaf, or (`duplicate`) a second name of one."""

    rule: Rule
    layer: int | None
    duplicate: bool


@dataclasses.dataclass(frozen=True)
class Layout:
    """All names one kind of file may hold.

    `buffers` (name, value) are constants of the PyTorch module; names that match a pattern of `ignored` carry nothing.
    """

    title: str
    rules: tuple[Rule, ...]
    buffers: tuple[tuple[str, Callable[[], np.ndarray]], ...] = ()
    ignored: tuple[str, ...] = ()

    def match(self, name: str) -> Match | None:
        """The rule for `name`, or None for an unknown name."""
        for pattern, rule, duplicate in self._patterns:
            if parsed := pattern.fullmatch(name):
                layer = int(parsed["i"]) if "i" in pattern.groupindex else None
                return Match(rule, None if duplicate else layer, duplicate)
        return None

    def is_buffer(self, name: str) -> bool:
        return name in dict(self.buffers) or any(re.fullmatch(pattern, name) for pattern in self.ignored)

    def rule(self, path: str) -> Rule | None:
        """The rule whose leaf is `path`, or None if this kind of file does not hold it."""
        return self._by_path.get(path)

    def duplicates(self, rule: Rule, layers: int) -> Iterator[str]:
        """Every further name of the tensor of `rule` in a model whose part has `layers` layers."""
        for name in rule.duplicates:
            names = (name.format(i=i) for i in range(layers)) if "{i}" in name else (name,)
            yield from (n for n in names if n != rule.name)

    def under(self, prefix: str) -> "Layout":
        """The part whose leaves lie under `prefix`."""
        return dataclasses.replace(self, rules=tuple(r for r in self.rules if r.path.startswith(prefix)))

    @functools.cached_property
    def _patterns(self) -> tuple[tuple[re.Pattern, Rule, bool], ...]:
        names = [(rule.name, rule, False) for rule in self.rules]
        names += [(name, rule, True) for rule in self.rules for name in rule.duplicates]  # after the names they repeat
        return tuple((_pattern(name), rule, duplicate) for name, rule, duplicate in names)

    @functools.cached_property
    def _by_path(self) -> dict[str, Rule]:
        return {rule.path: rule for rule in self.rules}


def _pattern(name: str) -> re.Pattern:
    return re.compile(re.escape(name).replace(r"\{i\}", r"(?P<i>0|[1-9]\d*)"))


def _linear(name: str, path: str) -> tuple[Rule, Rule]:
    return Rule(f"{name}.weight", f"{path}/kernel", TRANSPOSE), Rule(f"{name}.bias", f"{path}/bias")


def _norm(name: str, path: str) -> tuple[Rule, Rule]:
    return Rule(f"{name}.weight", f"{path}/scale"), Rule(f"{name}.bias", f"{path}/bias")


_B = "encoder.layers.{i}"
_TABLE = "self_attn.relative_attention_bias.weight"
BEATS = (
    Rule("patch_embedding.weight", "beats/patch_embedding/kernel", PATCHES),
    *_norm("layer_norm", "beats/patch_norm"),
    *_linear("post_extract_proj", "beats/patch_proj"),
    Rule("encoder.pos_conv.0.weight_v", "beats/pos_conv/weight_v"),
    Rule("encoder.pos_conv.0.weight_g", "beats/pos_conv/weight_g"),
    Rule("encoder.pos_conv.0.bias", "beats/pos_conv/bias"),
    *_norm("encoder.layer_norm", "beats/norm"),
    # Made by layer 0 and shared: every layer's entry is the same tensor.
    Rule(f"encoder.layers.0.{_TABLE}", "beats/relative_bias/embedding", duplicates=(f"{_B}.{_TABLE}",)),
    *(
        r
        for p in ("q_proj", "k_proj", "v_proj", "out_proj")
        for r in _linear(f"{_B}.self_attn.{p}", f"beats/layers/{p}")
    ),
    *_linear(f"{_B}.self_attn.grep_linear", "beats/layers/grep_linear"),
    Rule(f"{_B}.self_attn.grep_a", "beats/layers/grep_a"),
    *_linear(f"{_B}.fc1", "beats/layers/fc1"),
    *_linear(f"{_B}.fc2", "beats/layers/fc2"),
    *_norm(f"{_B}.self_attn_layer_norm", "beats/layers/attn_norm"),
    *_norm(f"{_B}.final_layer_norm", "beats/layers/final_norm"),
)
PREDICTOR = _linear("predictor", "beats/predictor")
"""AudioSet classes; only in fine-tuned encoders, and unused by NatureLM."""

_Q = "audio_Qformer.bert.encoder.layer.{i}"
_ATTENTIONS = (("attention", "qformer/layers/self_attn"), ("crossattention", "qformer/layers/cross_attn"))
BRIDGE = (
    *_norm("ln_audio", "ln_audio"),
    Rule("audio_query_tokens", "qformer/query_tokens"),
    *_norm("audio_Qformer.bert.embeddings.LayerNorm", "qformer/embed_norm"),
    *(
        r
        for theirs, ours in _ATTENTIONS
        for r in (
            *(r for p in ("query", "key", "value") for r in _linear(f"{_Q}.{theirs}.self.{p}", f"{ours}/{p}")),
            *_linear(f"{_Q}.{theirs}.output.dense", f"{ours}/dense"),
            *_norm(f"{_Q}.{theirs}.output.LayerNorm", f"{ours}/norm"),
        )
    ),
    *_linear(f"{_Q}.intermediate_query.dense", "qformer/layers/intermediate"),
    *_linear(f"{_Q}.output_query.dense", "qformer/layers/output"),
    *_norm(f"{_Q}.output_query.LayerNorm", "qformer/layers/output_norm"),
    *_linear("audio_llama_proj", "audio_proj"),
)
POSITION_IDS = ("audio_Qformer.bert.embeddings.position_ids", lambda: np.arange(512, dtype=np.int64)[None])
"""A constant that the reference's BERT registers as a buffer."""

ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj")
"""Projections that carry a LoRA adapter."""
_L = "model.layers.{i}"
EMBED = Rule("model.embed_tokens.weight", "llama/embed_tokens/embedding")
HEAD = Rule("lm_head.weight", "llama/lm_head/kernel", TRANSPOSE)
_MLP = ("gate_proj", "up_proj", "down_proj")
LLAMA = (
    *(Rule(f"{_L}.self_attn.{p}.weight", f"llama/layers/{p}/kernel", TRANSPOSE) for p in ADAPTED),
    *(Rule(f"{_L}.mlp.{p}.weight", f"llama/layers/{p}/kernel", TRANSPOSE) for p in _MLP),
    Rule(f"{_L}.input_layernorm.weight", "llama/layers/input_norm/scale"),
    Rule(f"{_L}.post_attention_layernorm.weight", "llama/layers/post_norm/scale"),
    Rule("model.norm.weight", "llama/norm/scale"),
)
ATTENTION_BIAS = tuple(Rule(f"{_L}.self_attn.{p}.bias", f"llama/layers/{p}/bias") for p in ADAPTED)
MLP_BIAS = tuple(Rule(f"{_L}.mlp.{p}.bias", f"llama/layers/{p}/bias") for p in _MLP)
ROTARY = r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq"
"""Old Llama checkpoints store the rotary frequencies, which follow from the config."""

LORA = tuple(
    Rule(f"base_model.model.{_L}.self_attn.{p}.lora_{x}.weight", f"llama/layers/{p}/lora_{x.lower()}", TRANSPOSE)
    for p in ADAPTED
    for x in "AB"
)


def microsoft(cfg: BeatsConfig) -> Layout:
    """Microsoft's BEATs: the encoder alone, `model` of its `.pt` files."""
    return Layout("Microsoft BEATs", BEATS + (PREDICTOR if cfg.predictor_classes else ()))


def hugging_face(cfg: LlamaConfig) -> Layout:
    """A Llama-family directory. A tied one may repeat the embedding under the name of the head."""
    biases = (ATTENTION_BIAS if cfg.attention_bias else ()) + (MLP_BIAS if cfg.mlp_bias else ())
    ends = (dataclasses.replace(EMBED, duplicates=(HEAD.name,)),) if cfg.tied else (EMBED, HEAD)
    return Layout("Hugging Face Llama", ends + LLAMA + biases, ignored=(ROTARY,))


def peft() -> Layout:
    """A PEFT adapter: `adapter_model.safetensors`."""
    return Layout("PEFT adapter", LORA)


def official(cfg: NatureLMConfig) -> Layout:
    """The state dict of the official NatureLM class. Without LoRA its Llama is not wrapped."""
    wrap = _wrapped if cfg.llama.lora else "llama_model.{}".format
    embed, *llama = (rule.renamed(wrap) for rule in hugging_face(cfg.llama).rules)
    # The class keeps a second reference to the embedding, and safetensors keeps the alphabetically first of two names.
    embed = dataclasses.replace(embed, name="llama_embed_tokens.weight", duplicates=(embed.name, *embed.duplicates))
    adapter = (r.renamed(lambda name: "llama_model." + name.replace(".weight", ".default.weight")) for r in LORA)
    beats = (r.renamed("beats.{}".format) for r in microsoft(cfg.beats).rules)
    rules = (*beats, *BRIDGE, embed, *llama, *(adapter if cfg.llama.lora else ()))
    return Layout("official NatureLM", rules, buffers=(POSITION_IDS,))


def native(paths: Iterable[str]) -> Layout:
    """Our own files: the paths are the names, and stacked leaves are stored stacked."""
    return Layout("nlm", tuple(Rule(path, path) for path in paths))


def _wrapped(name: str) -> str:
    """PEFT wraps the model, and an adapted projection keeps its own weight under `base_layer`."""
    name = re.sub(rf"({'|'.join(ADAPTED)})\.(weight|bias)$", r"\1.base_layer.\2", name)
    return "llama_model.base_model.model." + name
