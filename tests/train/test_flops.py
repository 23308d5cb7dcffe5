"""The formula against XLA's count of the same computation, which is right where nothing is scanned twice."""

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

    found = counted(
        lambda: LlamaModel(cfg, rngs=nnx.Rngs(0)),
        call,
        jax.ShapeDtypeStruct((1, length, 256), jnp.float32),
        jax.ShapeDtypeStruct((1, length), jnp.int32),
    )
    # XLA computes the masked half of the scores too
    np.testing.assert_allclose(found, length * llama_flops(cfg, 2 * length), rtol=0.05)


def test_beats_layer():
    cfg = dataclasses.replace(preset("tiny").beats, layers=1, width=256, mlp=1024)
    patches = n_tokens(tiny.SAMPLES)
    found = counted(
        lambda: BeatsLayer(cfg, rngs=nnx.Rngs(0)),
        lambda layer, x, bias: layer(x, bias, None),
        jax.ShapeDtypeStruct((1, patches, 256), jnp.float32),
        jax.ShapeDtypeStruct((cfg.heads, patches, patches), jnp.float32),
    )
    expected = beats_flops(dataclasses.replace(cfg, layers=2), patches) - beats_flops(cfg, patches)
    np.testing.assert_allclose(found, expected, rtol=0.05)


def test_what_trains_decides_the_backward_pass():
    flops = forward_flops(preset("llama-3.1-8b"), 160_000, 120)
    reference = flops.training(Components(), 8, 1000, 100)
    assert reference > flops.training(Components(beats=False), 8, 1000, 100)
    assert flops.training(Components(base=True), 0, 1000, 0) == pytest.approx(1000 * 3 * (flops.token + flops.adapter))
    assert flops.training(Components(), 0, 1000, 0) == pytest.approx(1000 * (2 * flops.token + 3 * flops.adapter))
    # 6.98 G weights are multiplied for each token of the 8B, embedding and head aside
    assert flops.token == pytest.approx(2 * 6.98e9, rel=0.01)


def test_cpus_have_no_peak():
    assert peak_flops() is None
