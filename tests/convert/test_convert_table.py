"""The table against the golden name lists, the models' own parameters, and live state dicts."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest
import torch
import transformers

from nlm_jax.convert import io, leaves, naturelm, table
from nlm_jax.convert.checkpoint import duplicates, entries
from nlm_jax.models.beats.config import BeatsConfig
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.models.llama.config import LlamaConfig
from nlm_jax.models.presets import preset

TINY = preset("tiny")


def variant(**llama) -> NatureLMConfig:
    return dataclasses.replace(TINY, llama=dataclasses.replace(TINY.llama, **llama))


@pytest.mark.parametrize(
    "cfg",
    [
        TINY,
        variant(lora=None),
        variant(tied=True),
        variant(attention_bias=True, mlp_bias=True),
        dataclasses.replace(TINY, beats=dataclasses.replace(TINY.beats, predictor_classes=None)),
        preset("llama-3.1-8b"),
        preset("llama-3.2-1b"),
    ],
    ids=["tiny", "no-lora", "tied", "biases", "no-predictor", "8b", "1b"],
)
def test_every_parameter_has_one_rule_and_every_rule_a_parameter(cfg):
    paths = [rule.path for rule in table.official(cfg).rules]
    assert len(paths) == len(set(paths))
    assert set(paths) == set(leaves.abstract(cfg))


@pytest.mark.parametrize(
    ("dtype", "column"), [("bfloat16", "dtype_when_built_for_cuda"), ("float32", "dtype_when_built_for_cpu")]
)
def test_the_real_checkpoint_name_for_name(golden, dtype, column):
    real = json.loads((golden / "official_state_dict_keys_real.json").read_text())
    names, dropped = naturelm.official_layout(preset("llama-3.1-8b"), dtype)
    assert names == {name: (tuple(e["shape"]), e[column]) for name, e in real["state_dict"].items()}
    assert dropped == real["shared_tensors_removed_by_safetensors_save_model"]


def test_the_tiny_checkpoint_name_for_name(golden, open_golden):
    tiny = json.loads((golden / "official_state_dict_keys_tiny.json").read_text())
    names, _ = naturelm.official_layout(open_golden().config, "float32")
    assert names == {name: (tuple(shape), dtype.removeprefix("torch.")) for name, (shape, dtype) in tiny.items()}


def test_the_table_as_text():
    """tensor_names.txt is the table, a line per rule; replace it by `text` if a rule changes."""
    rules = table.official(TINY).rules
    lines = [f"{rule.name:<85} {rule.path:<39} {rule.op.name}".rstrip() for rule in rules]
    header = "# official name (i: layer), path in the model here (layers stacked), what is done to the array"
    text = "\n".join([header, *lines]) + "\n"
    assert (pathlib.Path(__file__).parent / "tensor_names.txt").read_text(encoding="utf-8") == text


def test_names_go_to_leaves_and_back():
    layout = table.official(TINY)
    for entry in entries(leaves.abstract(TINY), layout):
        match = layout.match(entry.name)
        assert match.rule.at(match.layer) == entry.name
        assert not match.duplicate


def test_duplicates_are_recognized():
    layout = table.official(TINY)
    for name, original in duplicates(layout, TINY.beats.layers).items():
        assert layout.match(name).duplicate
        assert layout.match(name).rule.name == original


@pytest.mark.parametrize(
    "name",
    [
        "beats.encoder.layers.0.fc1.weight.extra",
        "xbeats.encoder.layers.0.fc1.weight",
        "beats.encoder.layers.00.fc1.weight",
        "beats.encoder.layers..fc1.weight",
        "beatsXencoder.layers.0.fc1.weight",
    ],
)
def test_no_name_is_matched_in_part(name):
    assert table.official(TINY).match(name) is None


@pytest.mark.parametrize("op", [table.SAME, table.TRANSPOSE, table.PATCHES], ids=lambda op: op.name)
def test_operations_have_inverses(op):
    theirs = np.random.default_rng(0).normal(size=(5, 1, 16, 16) if op is table.PATCHES else (5, 3)).astype("f")
    ours = op.ours(theirs)
    assert ours.base is theirs or ours is theirs, "a view: reading a slice must not read the tensor"
    np.testing.assert_array_equal(op.theirs(ours), theirs)
    assert op.their_shape(ours.shape) == theirs.shape


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("biases", [False, True])
def test_hugging_face_names_live(tied, biases):
    hf = transformers.LlamaConfig(
        vocab_size=11,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        attention_bias=biases,
        mlp_bias=biases,
    )
    with torch.device("meta"):
        state = transformers.LlamaForCausalLM(hf).state_dict()
    cfg = LlamaConfig(
        vocab=11, width=16, layers=2, heads=4, kv_heads=2, head_dim=4, mlp=24,
        tied=tied, attention_bias=biases, mlp_bias=biases,
    )  # fmt: skip
    ours_abstract = leaves.abstract(dataclasses.replace(TINY, llama=cfg))
    layout = table.hugging_face(cfg)
    ours = {entry.name: entry.shape for entry in entries(ours_abstract, layout)}
    ours |= {name: ours[original] for name, original in duplicates(layout, 2).items()}
    assert ours == {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_the_microsoft_file_name_for_name(golden):
    tensors = io.read_tensors(golden / "checkpoints" / "beats_microsoft_format.pt")
    cfg = BeatsConfig(patch_dim=32, width=48, layers=3, heads=4, mlp=96)
    layout = table.microsoft(cfg)
    ours_abstract = leaves.abstract(dataclasses.replace(TINY, beats=cfg))
    ours = {entry.name for entry in entries(ours_abstract, layout)} | set(duplicates(layout, cfg.layers))
    assert ours == set(tensors)


def test_paths_follow_the_models_and_not_the_other_way():
    """The layers lead, and kernels are [in, out]: what the operations of the table rest on."""
    ours_abstract = leaves.abstract(TINY)
    assert ours_abstract["beats/layers/fc1/kernel"].shape == (3, 64, 128)
    assert ours_abstract["llama/lm_head/kernel"].shape == (64, 513)
    assert isinstance(ours_abstract["ln_audio/scale"], jax.ShapeDtypeStruct)
