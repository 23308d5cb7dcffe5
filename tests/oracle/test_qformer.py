"""Windows, Q-Former and projection against the official arrays."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nlm_jax.models.qformer.model import windows

CLIPS = ("clip_2s", "clip_4p7s", "clip_10s", "clip_6p3s_padded_to_10s")


@pytest.fixture(scope="module")
def net(model):
    return model.checkpoint.model()


@pytest.fixture
def check(arrays, limit):
    def compare(ours, name):
        theirs = arrays("qformer")[name]
        ours = np.asarray(ours).reshape(theirs.shape)
        assert np.abs(ours - theirs).max() <= limit("qformer.npz", name)

    return compare


@pytest.fixture(scope="module")
def tokens(net):
    graphdef, state = nnx.split(net)

    @jax.jit
    def run(state, features):
        net = nnx.merge(graphdef, state)
        return net.ln_audio(net.beats.encode(features))

    return lambda arrays, clip: run(state, jnp.asarray(arrays("fbank")[f"{clip}__f32"])[None])


@pytest.mark.parametrize("clip", CLIPS)
def test_output_and_projection(net, tokens, arrays, check, clip):
    vectors = net.qformer(tokens(arrays, clip))
    check(vectors, f"{clip}__qformer_output")
    check(net.audio_proj(vectors), f"{clip}__audio_embeds")


def test_every_stage(net, tokens, arrays, check):
    x = tokens(arrays, "clip_4p7s")
    check(x, "clip_4p7s__ln_audio")
    parts = windows(x, 17, 17)[0]
    check(parts, "clip_4p7s__windows")
    q = net.qformer.embed_norm(jnp.broadcast_to(net.qformer.query_tokens[...], (len(parts), 1, parts.shape[-1])))
    check(jax.tree.map(lambda a: a[0], net.qformer.layers)(q, parts), "clip_4p7s__qformer_layer_0")


def test_the_qformer_ignores_the_padding_mask(model, arrays, check, clips, reference_fbank):
    clip = "clip_6p3s_padded_to_10s"
    mask = (np.arange(160000) >= 100800)[None]
    check(model.encode_audio(clips(clip)[None], mask), f"{clip}__masked__audio_embeds")
    golden = arrays("beats")
    check(model.encode_audio(golden["batch2__raw_wav"], golden["batch2__padding_mask"]), "batch2__audio_embeds")


def test_three_queries(net, arrays, check):
    parts = jnp.asarray(arrays("qformer")["clip_4p7s__windows"][:4])
    queries = jnp.broadcast_to(arrays("qformer")["three_queries__input"], (4, 3, parts.shape[-1]))
    check(net.qformer.attend(queries, parts), "three_queries__output")


def test_window_settings(net, tokens, golden, arrays, check):
    x = tokens(arrays, "clip_4p7s")
    for row in json.loads((golden / "windows.json").read_text())["window_variants"]:
        cfg = dataclasses.replace(
            net.qformer.cfg, window_seconds=row["second_per_window"], stride_seconds=row["second_stride"]
        )
        graph = nnx.clone(net.qformer)
        graph.cfg = cfg
        check(net.audio_proj(graph(x)), f"window_variant_{row['index']}__audio_embeds")


@pytest.mark.parametrize("clip", CLIPS)
def test_from_the_waveform(model, arrays, clips, limit, clip):
    """The whole path with our own filter bank: off by no more than ten times what float32 does to its input."""
    ours = np.asarray(model.encode_audio(clips(clip)[None]))
    for name in (f"{clip}__audio_embeds", f"{clip}__f64wave__audio_embeds"):
        assert np.abs(ours - arrays("qformer")[name]).max() <= 10 * limit.input_noise["audio_embeds"][clip] + limit(
            "qformer.npz", f"{clip}__audio_embeds"
        )
