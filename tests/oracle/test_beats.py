"""The BEATs encoder, layer by layer, against the official arrays. The features are the official ones."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nlm_jax.convert.table import microsoft
from nlm_jax.core.frames import n_frames
from nlm_jax.core.tree import named_leaves
from nlm_jax.models.beats.layer import scale_gradient
from nlm_jax.models.beats.model import patches, reduce_mask
from nlm_jax.models.beats.position import bucket_of, convolve, convolve_by_fft

CLIPS = ("clip_2s", "clip_4p7s", "clip_10s", "clip_6p3s_padded_to_10s")


@pytest.fixture(scope="module")
def beats(model):
    return model.checkpoint.model().beats


@pytest.fixture(scope="module")
def encode(beats):
    graphdef, state = nnx.split(beats)
    run = jax.jit(lambda state, x, padding, key: nnx.merge(graphdef, state).encode(x, padding, key=key))
    return lambda x, padding=None, key=None: run(state, x, padding, key)


@pytest.fixture
def check(arrays, limit):
    def compare(ours, name):
        theirs = arrays("beats")[name]
        ours = np.asarray(ours)
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= limit("beats.npz", name)

    return compare


def features(arrays, clip):
    return jnp.asarray(arrays("fbank")[f"{clip}__f32"])[None]


@pytest.mark.parametrize("clip", CLIPS)
def test_output(encode, arrays, check, clip):
    check(encode(features(arrays, clip))[0], f"{clip}__output")


def test_every_stage(beats, arrays, check):
    clip = "clip_4p7s"
    x = beats.patch_embedding(patches(features(arrays, clip)))
    check(x[0].reshape(-1, 8, x.shape[-1]).transpose(2, 0, 1), f"{clip}__patch_embedding")
    x = beats.patch_norm(x)
    check(x[0], f"{clip}__layer_norm")
    x = beats.patch_proj(x)
    check(x[0], f"{clip}__post_extract_proj")
    convolved = beats.pos_conv(x)
    check(convolved[0], f"{clip}__pos_conv")
    x = beats.norm(x + convolved)
    check(x[0], f"{clip}__encoder_layer_norm")
    bias = beats.relative_bias(x.shape[1])
    for i in range(beats.cfg.layers):
        x = jax.tree.map(lambda a, i=i: a[i], beats.layers)(x, bias, None)
        check(x[0], f"{clip}__layer_{i}")


def test_padding_mask(beats, encode, arrays, check):
    clip = "clip_6p3s_padded_to_10s"
    padding = reduce_mask(jnp.arange(160000)[None] >= 100800, n_frames(160000))
    check(encode(features(arrays, clip), padding)[0], f"{clip}__masked__output")
    tokens = reduce_mask(padding, 496)
    np.testing.assert_array_equal(tokens[0], arrays("beats")[f"{clip}__masked__token_padding_mask"])
    x = beats.patch_proj(beats.patch_norm(beats.patch_embedding(patches(features(arrays, clip)))))
    x = jnp.where(tokens[..., None], 0, x)
    first = jax.tree.map(lambda a: a[0], beats.layers)
    check(first(beats.norm(x + beats.pos_conv(x)), beats.relative_bias(496), tokens)[0], f"{clip}__masked__layer_0")


def test_features_of_the_float64_waveform(encode, arrays, check):
    clip = "clip_6p3s_padded_to_10s"
    check(encode(jnp.asarray(arrays("fbank")[f"{clip}__f64_cast_f32"])[None])[0], f"{clip}__f64wave__output")


def test_padded_batch(beats, arrays, check, reference_fbank):
    golden = arrays("beats")
    frames = reduce_mask(jnp.asarray(golden["batch2__padding_mask"]), 468)
    np.testing.assert_array_equal(frames, golden["batch2__frame_padding_mask"])
    np.testing.assert_array_equal(reduce_mask(frames, 232), golden["batch2__token_padding_mask"])
    out = beats(jnp.asarray(golden["batch2__raw_wav"]), jnp.asarray(golden["batch2__padding_mask"]))
    check(out, "batch2__output")
    # The head's mean excludes the padded tokens (only the second clip has any).
    tokens = jnp.asarray(golden["batch2__token_padding_mask"])[..., None]
    logits = jnp.where(tokens, 0, beats.predictor(out)).sum(1) / (~tokens).sum(1)
    check(jax.nn.sigmoid(logits), "batch2__predictor_probs")


def test_predictor(beats, encode, arrays, check):
    logits = beats.predictor(encode(features(arrays, "clip_4p7s")))
    check(jax.nn.sigmoid(logits.mean(1))[0], "clip_4p7s__predictor_probs")


def test_an_all_false_mask_is_no_mask(encode, arrays):
    x = features(arrays, "clip_2s")
    np.testing.assert_allclose(encode(x, jnp.zeros(x.shape[:2], bool)), encode(x), atol=1e-6)


def test_everything_masked_stays_finite(encode, arrays):
    x = features(arrays, "clip_2s")
    assert np.isfinite(encode(x, jnp.ones(x.shape[:2], bool))).all()


def test_buckets(arrays):
    golden = arrays("beats")
    np.testing.assert_array_equal(bucket_of(golden["relative_positions"], 320, 800), golden["relative_position_bucket"])
    far = np.arange(-8192, 8193)
    bucket = bucket_of(far, 320, 800)
    assert bucket.min() == 0
    assert bucket.max() == 319
    assert (bucket[far >= 800] == 319).all()
    assert (bucket[far <= -800] == 159).all()


def test_position_bias_and_conv_weight(beats, arrays, check):
    check(beats.relative_bias(96), "position_bias")
    check(beats.pos_conv.weight(), "pos_conv_effective_weight")


@pytest.mark.parametrize(("tokens", "taps"), [(40, 128), (96, 128), (33, 7)])
def test_both_convolutions_agree(tokens, taps):
    kx, kw = jax.random.split(jax.random.key(0))
    x, weight = jax.random.normal(kx, (2, tokens, 32)), jax.random.normal(kw, (32, 4, taps)) / taps
    results = []
    for function in (lambda x, w: convolve(x, w, 8), convolve_by_fft):
        results.append(jax.jit(function)(x, weight))
        results.append(jax.jit(jax.grad(lambda x, w, f=function: jnp.sin(f(x, w)).sum(), (0, 1)))(x, weight))
    np.testing.assert_allclose(results[2], results[0], atol=2e-6)
    for direct, fft in zip(results[1], results[3], strict=True):
        np.testing.assert_allclose(fft, direct, atol=2e-5)


def test_layer_wise_gradient_decay(beats, golden, arrays):
    """Gradient with decay 0.6 over gradient without: the reference's measured scale of each encoder parameter."""
    measured = json.loads((golden / "train_forward.json").read_text())
    measured = measured["effective_gradient_scale_of_layerwise_decay_0p6"]
    x, state = features(arrays, "clip_2s"), nnx.state(beats)

    @functools.partial(jax.jit, static_argnums=0)
    def gradient(decay, state):
        net = nnx.merge(nnx.graphdef(beats), state)
        net.cfg = dataclasses.replace(net.cfg, grad_decay=decay)
        return jax.grad(lambda s: jnp.sin(nnx.merge(nnx.graphdef(net), s).encode(x)).sum())(state)

    scaled, plain = (named_leaves(gradient(decay, state)) for decay in (0.6, 1.0))
    layers, compared = beats.cfg.layers, 0
    for rule in microsoft(beats.cfg).rules:
        path = rule.path.removeprefix("beats/")
        for i in range(layers) if rule.stacked else (None,):
            a, b = (np.asarray(g[path] if i is None else g[path][i], np.float64).ravel() for g in (scaled, plain))
            theirs = measured.get(f"beats.{rule.at(i)}")
            if (
                theirs is None or theirs["rel_residual"] > 1e-5
            ):  # no gradient, a zero one, or the shared table's mixture
                continue
            assert np.abs(a - theirs["scale"] * b).max() <= 1e-5 * np.abs(b).max(), rule.at(i)
            compared += 1
    assert compared > 40


def test_gradient_scaling():
    assert jax.grad(lambda x: scale_gradient(x, 0.6) * 3.0)(1.0) == pytest.approx(1.8)


def test_layerdrop_keeps_shapes_and_is_reproducible(encode, arrays):
    x = features(arrays, "clip_2s")
    a, b = (encode(x, key=jax.random.key(3)) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    draws = [float(jnp.abs(encode(x, key=jax.random.key(k)) - encode(x)).max()) for k in range(12)]
    assert min(draws) < 1e-5  # mostly nothing is dropped
    assert max(draws) > 1e-2  # sometimes a layer is
