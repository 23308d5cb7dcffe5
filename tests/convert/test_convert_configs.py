"""Config files of others, both ways, and against the libraries they belong to."""

import dataclasses
import json

import pytest
import transformers

from nlm_jax.convert import configs
from nlm_jax.core.config import build
from nlm_jax.core.errors import UserError
from nlm_jax.models.config import NatureLMConfig, check
from nlm_jax.models.llama.config import LlamaConfig
from nlm_jax.models.presets import NAMES, preset
from nlm_jax.models.qformer.config import QFormerConfig
from nlm_jax.nn.rope import RopeScaling
from nlm_jax.train.weights import merge

SIZES = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 4096,
}


def read(**more) -> LlamaConfig:
    return configs.llama_config(SIZES | more, "llm/config.json")


def test_official_config_of_the_golden_model(golden, open_golden):
    cfg = open_golden().config
    assert cfg.beats.width == 48
    assert cfg.beats.predictor_classes == 527
    assert cfg.qformer == QFormerConfig(width=48, heads=4, mlp=96)
    assert (cfg.llama.vocab, cfg.llama.head_dim, cfg.llama.kv_heads) == (401, 16, 2)
    assert cfg.llama.lora.scale == 2.0
    assert cfg.max_txt_len == 48
    official = json.loads((golden / "model" / "config.json").read_text())
    assert configs.official_json(cfg, official) == official


def test_official_config_without_its_source_file(golden):
    """The fields are those of the official class, with the published values where the model says nothing."""
    official = json.loads((golden / "model" / "config.json").read_text())
    converted = configs.official_json(NatureLMConfig(llama=preset("llama-3.1-8b").llama))
    assert set(converted) == set(official) | {"nlm_audio"}
    assert set(converted["beats_cfg"]) == set(official["beats_cfg"])
    assert (converted["lora_rank"], converted["lora_alpha"], converted["beats_cfg"]["encoder_embed_dim"]) == (
        32,
        32,
        768,
    )


def test_beats_without_a_head_both_ways():
    cfg = dataclasses.replace(preset("tiny").beats, predictor_classes=None)
    converted = configs.beats_json(cfg)
    assert converted["finetuned_model"] is False
    assert configs.beats_config(converted) == cfg


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"max_pooling": True}, "max_pooling=True"),
        ({"use_audio_Qformer": False}, "use_audio_Qformer=False"),
        ({"beats_cfg": {"layer_norm_first": True}}, "beats_cfg: layer_norm_first=True"),
        ({"beats_cfg": {"input_patch_size": 8}}, "input_patch_size=8"),
        ({"max_txt_len": "many"}, "max_txt_len"),
    ],
)
def test_variants_of_the_model_that_are_not_here(change, says):
    with pytest.raises(UserError, match=says):
        configs.naturelm_config(change, LlamaConfig(), QFormerConfig(), "config.json")


def test_qformer_sizes_of_another_type():
    with pytest.raises(UserError, match=r"qformer_config=\[1\]: give the path"):
        configs.qformer_config([1], {})


def test_qformer_sizes_from_wherever(golden, tmp_path):
    assert configs.qformer_config(None, {}) == QFormerConfig()
    windows = {"second_per_window": 0.5, "second_stride": 0.25, "num_audio_query_token": 2}
    from_file = configs.qformer_config(str(golden / "qformer_config.json"), windows)
    assert from_file == QFormerConfig(48, 4, 96, queries=2, window_seconds=0.5, stride_seconds=0.25)
    assert configs.qformer_config(configs.qformer_json(from_file), windows) == from_file
    assert configs.qformer_config({"width": 48, "heads": 4, "mlp": 96}, windows) == from_file
    with pytest.raises(UserError, match="cross_attention_freq=2"):
        configs.qformer_config({"cross_attention_freq": 2}, {})
    with pytest.raises(UserError, match="no such file"):
        configs.qformer_config(tmp_path / "none.json", {})


@pytest.mark.parametrize(
    ("fields", "theta", "scaling"),
    [
        ({}, 10000.0, None),
        ({"rope_theta": 5e5, "rope_scaling": None}, 5e5, None),
        ({"rope_theta": 5e5, "rope_scaling": LLAMA3}, 5e5, RopeScaling("llama3", 32.0, 1.0, 4.0, 4096)),
        ({"rope_parameters": LLAMA3 | {"rope_theta": 5e5}}, 5e5, RopeScaling("llama3", 32.0, 1.0, 4.0, 4096)),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, 1e6, None),
        ({"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 4}}, 1e4, RopeScaling("linear", 4.0)),
    ],
)
def test_rope_in_both_spellings(fields, theta, scaling):
    cfg = read(**fields)
    assert (cfg.rope_theta, cfg.rope_scaling) == (theta, scaling)


@pytest.mark.parametrize("kind", ["yarn", "dynamic", "longrope"])
@pytest.mark.parametrize("spelling", ["rope_scaling", "rope_parameters"])
def test_rope_scaling_that_is_not_supported(kind, spelling):
    with pytest.raises(UserError, match=rf"llm/config\.json: RoPE scaling of type '{kind}' is not supported"):
        read(**{spelling: {"rope_type": kind, "factor": 2.0}})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "qwen2"}, "model_type 'qwen2'"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
        ({"model_type": "mistral", "sliding_window": 4096}, "sliding_window=4096"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"model_type": "mistral"}, "sliding_window=4096"),  # what transformers takes where a config is silent
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types holds 'sliding_attention'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0.0}}, "factor > 0"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "lacks low_freq_factor"),
        ({"rope_scaling": "llama3"}, "rope_scaling='llama3' must be an object"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "of their own for full_attention layers"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor=0.5"),
        ({"rope_theta": "many"}, "rope_theta='many'"),
        ({"num_attention_heads": 0}, "num_attention_heads=0 must be a whole number"),
        ({"vocab_size": True}, "vocab_size=True must be a whole number"),
        ({"hidden_size": "64"}, "hidden_size='64' must be a whole number"),
        ({"num_key_value_heads": 3}, "num_key_value_heads=3 does not divide num_attention_heads"),
        ({"head_dim": 5}, "even size"),
        ({"hidden_size": 66}, "even size"),
    ],
)
def test_other_families(change, says):
    with pytest.raises(UserError, match=says):
        read(**change)


@pytest.mark.parametrize(
    "llama",
    [
        preset("llama-3.1-8b").llama,
        preset("llama-3.2-1b").llama,
        LlamaConfig(vocab=50, width=64, layers=1, heads=8, kv_heads=1, head_dim=4, mlp=32, attention_bias=True),
        LlamaConfig(vocab=50, width=64, layers=1, mlp=32, rope_scaling=RopeScaling("linear", 2.0), mlp_bias=True),
    ],
    ids=["8b", "1b", "own head size", "linear"],
)
def test_our_config_json_is_understood_by_transformers(llama, tmp_path):
    """What transformers makes of it, written in its own spelling, gives the same config again."""
    bare = dataclasses.replace(llama, lora=None)
    theirs = transformers.LlamaConfig.from_dict(configs.llama_json(bare))
    theirs.save_pretrained(tmp_path)
    assert configs.llama_config(json.loads((tmp_path / "config.json").read_text()), "") == bare


def test_a_config_json_that_still_fits_is_carried_along(golden):
    carried = json.loads((golden / "llama" / "config.json").read_text())
    cfg = configs.llama_config(carried, "")
    assert configs.llama_json(cfg, carried) == carried
    assert configs.llama_json(dataclasses.replace(cfg, layers=2), carried)["num_hidden_layers"] == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"beats": {"layers": 0}}, r"beats\.layers=0 must be at least 1"),
        ({"beats": {"heads": 5}}, r"beats\.heads=5 does not divide 64"),
        ({"beats": {"conv_groups": 0}}, r"beats\.conv_groups=0 must be at least 1"),
        ({"beats": {"layerdrop": 1.0}}, r"beats\.layerdrop=1\.0 must lie in \[0, 1\)"),
        ({"qformer": {"heads": 7}}, r"qformer\.heads=7 does not divide 64"),
        ({"qformer": {"stride_seconds": 0.0}}, "stride must hold at least one token"),
        ({"qformer": {"window_seconds": -1.0}}, "windows and their stride"),
        ({"llama": {"kv_heads": 3}}, r"llama\.kv_heads=3 does not divide 4"),
        ({"llama": {"lora": {"rank": 0}}}, r"llama\.lora\.rank=0 must be at least 1"),
        ({"llama": {"lora": {"dropout": -0.1}}}, r"llama\.lora\.dropout=-0\.1"),
        ({"prompt_template": "user:"}, r"prompt_template contain \{\}"),
        ({"remat": "some"}, "remat='some' must be one of none, full"),
        ({"max_txt_len": 0}, "max_txt_len must be at least 1"),
    ],
)
def test_sizes_that_make_no_model(change, says):
    values = merge(dataclasses.asdict(preset("tiny")), change)
    with pytest.raises(UserError, match=f"here: .*{says}"):
        check(build(NatureLMConfig, values), "here")


@pytest.mark.parametrize("name", [name + pad for name in NAMES for pad in ("", "-no-pad")])
def test_presets_make_models(name):
    assert check(preset(name), name).llama.vocab % 2 == (0 if name.endswith("-no-pad") else 1)
