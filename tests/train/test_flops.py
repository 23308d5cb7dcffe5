"""The formula against XLA's count of the same computation, which is right if every scan has one step, and by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_training as tiny
from flax import nnx

from nlm_jax.core.frames import n_tokens
from nlm_jax.models.beats.layer import BeatsLayer
from nlm_jax.models.llama.model import LlamaModel
from nlm_jax.models.presets import preset
from nlm_jax.nn.attention import attend
from nlm_jax.train.flops import beats_flops, forward_flops, llama_flops, peak_flops
from nlm_jax.train.partition import Components


def counted(module, call, *shapes):
    graphdef, state = nnx.split(nnx.eval_shape(module))
    lowered = jax.jit(lambda s, *a: call(nnx.merge(graphdef, s), *a)).lower(state, *shapes)
    return lowered.cost_analysis()["flops"]


def test_llama_layer():
    cfg = dataclasses.replace(preset("tiny").llama, layers=1, lora=None, width=256, mlp=1024)
    length = 64
    mask = jnp.tril(jnp.ones((1, length, length), bool))

    def call(model, x, positions):
        return model(x, positions, lambda cache, _, q, k, v: (attend(q, k, v, mask), cache))[0]

    measured = counted(
        lambda: LlamaModel(cfg, rngs=nnx.Rngs(0)),
        call,
        jax.ShapeDtypeStruct((1, length, 256), jnp.float32),
        jax.ShapeDtypeStruct((1, length), jnp.int32),
    )
    # XLA computes the masked half of the scores too
    np.testing.assert_allclose(measured, length * llama_flops(cfg, 2 * length), rtol=0.05)


def test_beats_layer():
    cfg = dataclasses.replace(preset("tiny").beats, layers=1, width=256, mlp=1024)
    patches = n_tokens(tiny.SAMPLES)
    measured = counted(
        lambda: BeatsLayer(cfg, rngs=nnx.Rngs(0)),
        lambda layer, x, bias: layer(x, bias, None),
        jax.ShapeDtypeStruct((1, patches, 256), jnp.float32),
        jax.ShapeDtypeStruct((cfg.heads, patches, patches), jnp.float32),
    )
    expected = beats_flops(dataclasses.replace(cfg, layers=2), patches) - beats_flops(cfg, patches)
    np.testing.assert_allclose(measured, expected, rtol=0.05)


def test_the_8b_model_by_hand():
    """Two FLOPs per weight and token, plus the attention: 2 for scores, 2 for the weighted sum, causal in Llama."""
    flops = forward_flops(preset("llama-3.1-8b"), 160_000, 120)
    patches = 8 * (998 // 16)  # 10 s are 998 frames of 128 mel bins, in patches of 16 x 16
    layers, attention = 12 * (4 * 768**2 + 2 * 768 * 3072), 12 * 4 * patches**2 * 768
    embedding, position = 16 * 16 * 512 + 512 * 768, 128 * 768 * 768 // 16
    assert flops.beats == pytest.approx(2 * (layers + embedding + position) * patches + attention)
    layer = 4096 * (2 * 4096 + 2 * 1024 + 3 * 14336)
    assert flops.token == pytest.approx(32 * (2 * layer + 4 * 4096 * 120 / 2))
    assert flops.answer == 2 * 4096 * preset("llama-3.1-8b").llama.vocab


def test_what_trains_decides_the_backward_pass():
    flops = forward_flops(preset("llama-3.1-8b"), 160_000, 120)
    decoder = 1000 * (2 * flops.token + 3 * flops.adapter) + 100 * 2 * flops.answer
    audio = 8 * 3 * (flops.beats + flops.bridge)
    assert flops.training(Components(), 8, 1000, 100) == pytest.approx(audio + decoder)
    frozen_encoder = 8 * (flops.beats + 3 * flops.bridge)
    assert flops.training(Components(beats=False), 8, 1000, 100) == pytest.approx(frozen_encoder + decoder)
    base = 1000 * 3 * (flops.token + flops.adapter) + 100 * 3 * flops.answer
    assert flops.training(Components(base=True), 8, 1000, 100) == pytest.approx(audio + base)


def test_cpus_have_no_peak():
    assert peak_flops() is None
