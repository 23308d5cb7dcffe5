"""Implementations of attention over packed rows, compared with plain attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nlm_jax.core.errors import UserError
from nlm_jax.mesh.build import make_mesh
from nlm_jax.nn.attention import attend, attend_cudnn, attend_splash, check_attention, choose_attention
from nlm_jax.nn.masks import packed_causal

B, S, N, K, H = 2, 256, 4, 2, 128


def inputs(dtype=jnp.float32):
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(B, S, n, H)), dtype) for n in (N, K, K))
    # Three examples and padding in one row, one example in the other: no boundary is at the edge of a block.
    segments = np.zeros((B, S), np.int32)
    segments[0, :70], segments[0, 70:150], segments[0, 150:201] = 1, 2, 3
    segments[1] = 1
    return q, k, v, jnp.asarray(segments)


def value_and_gradients(mix, q, k, v, weight):
    """Output and the gradients of a weighted sum of it."""
    out, back = jax.vjp(mix, q, k, v)
    return out, back(weight.astype(out.dtype))


@pytest.mark.parametrize("sizes", [None, (2, 1, 2)], ids=["one device", "mesh"])
def test_splash_equals_plain_attention(sizes):
    q, k, v, segments = inputs()
    weight = jnp.asarray(np.random.default_rng(1).normal(size=q.shape), q.dtype)
    expected = value_and_gradients(lambda q, k, v: attend(q, k, v, packed_causal(segments)), q, k, v, weight)

    def splash(q, k, v):
        return attend_splash(q, k, v, segments, interpret=True)

    if sizes is None:
        results = value_and_gradients(splash, q, k, v, weight)
    else:
        mesh = make_mesh(*sizes, devices=jax.devices()[:4])
        with jax.set_mesh(mesh):
            results = jax.jit(lambda *x: value_and_gradients(splash, *x))(q, k, v, weight)
    for ours, theirs in zip(jax.tree.leaves(results), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN runs on NVIDIA GPUs only")
def test_cudnn_equals_plain_attention():
    q, k, v, segments = inputs(jnp.bfloat16)
    mask = packed_causal(segments)
    np.testing.assert_allclose(attend_cudnn(q, k, v, mask), attend(q, k, v, mask), rtol=0.02, atol=0.02)


def test_messages():
    q, k, v, segments = inputs()
    with pytest.raises(UserError, match="rows of 100 tokens; the kernel works in blocks of 128"):
        attend_splash(q[:, :100], k[:, :100], v[:, :100], segments[:, :100])
    with pytest.raises(UserError, match="attention='splash': runs on TPUs, these devices are of kind cpu"):
        check_attention("splash", "bfloat16", "cpu")
    with pytest.raises(UserError, match="attention='cudnn': needs compute_dtype='bfloat16', not 'float32'"):
        check_attention("cudnn", "float32", "gpu")
    check_attention("xla", "float32", "cpu")


def test_auto_selects_the_kernel_if_the_shapes_allow_it():
    assert choose_attention("auto", "tpu", 1024, 128) == "splash"
    assert choose_attention("auto", "tpu", 1000, 128) == "xla"
    assert choose_attention("auto", "tpu", 1024, 64) == "xla"
    assert choose_attention("auto", "cpu", 1024, 128) == "xla"
    assert choose_attention("cudnn", "tpu", 1024, 128) == "cudnn"
