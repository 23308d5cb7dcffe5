"""What trains: components cover the model, and impossible choices are errors."""

import dataclasses

import jax
import pytest
import tiny_training as tiny
from flax import nnx

from nlm_jax.core.errors import UserError
from nlm_jax.core.tree import named_leaves
from nlm_jax.models.naturelm import NatureLMModel
from nlm_jax.models.presets import preset
from nlm_jax.train.partition import COMPONENTS, Components, check, component, trainable


def model():
    return nnx.eval_shape(lambda: NatureLMModel(tiny.model_config(), rngs=nnx.Rngs(0)))


def test_every_parameter_has_one_component_but_the_unused_head():
    paths = named_leaves(nnx.state(model()))
    assert {p for p in paths if component(p) is None} == {"beats/predictor/kernel", "beats/predictor/bias"}
    assert {component(p) for p in paths} - {None} == set(COMPONENTS)


@pytest.mark.parametrize(
    ("chosen", "some", "none"),
    [
        ({"beats": True}, "beats/layers/fc1/kernel", "ln_audio/scale"),
        ({"qformer": True}, "ln_audio/scale", "audio_proj/kernel"),
        ({"projection": True}, "audio_proj/bias", "qformer/query_tokens"),
        ({"lora": True}, "llama/layers/q_proj/lora_a", "llama/layers/q_proj/kernel"),
        ({"base": True}, "llama/lm_head/kernel", "llama/layers/v_proj/lora_b"),
    ],
)
def test_one_switch_per_component(chosen, some, none):
    off = dict.fromkeys(COMPONENTS, False)
    _, train, frozen = nnx.split(model(), trainable(Components(**off | chosen)), ...)
    train, frozen = named_leaves(train), named_leaves(frozen)
    assert some in train
    assert none in frozen
    assert "beats/predictor/kernel" in frozen
    assert not set(train) & set(frozen)


def test_impossible_choices():
    bare = nnx.eval_shape(lambda: preset_without_lora())
    with pytest.raises(UserError, match=r"train\.lora: the model has no such parameters"):
        check(Components(), named_leaves(nnx.state(bare)))
    with pytest.raises(UserError, match="every component is switched off"):
        check(Components(False, False, False, False, False), named_leaves(nnx.state(model())))


def preset_without_lora():
    cfg = preset("tiny")
    return NatureLMModel(dataclasses.replace(cfg, llama=dataclasses.replace(cfg.llama, lora=None)), rngs=nnx.Rngs(0))


def test_axes_have_the_rank_of_their_arrays():
    """A missing name would silently shard another axis, the stacked one first of all."""
    state = nnx.state(model())
    for path, variable in nnx.to_flat_state(state):
        axes = variable.get_metadata()["out_sharding"]
        assert len(axes) == variable.get_value().ndim, path
        assert (axes[0] == "layers") == ("layers" in path), path
    assert jax.tree.leaves(state)
