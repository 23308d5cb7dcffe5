"""BEATs' gated attention and its own backward pass, compared with plain einsums and automatic differentiation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nlm_jax.mesh.build import make_mesh
from nlm_jax.nn import gated_attention_tpu
from nlm_jax.nn.attention import MASKED
from nlm_jax.nn.gated_attention import gated_attention
from nlm_jax.nn.stack import REMAT

NAMES = ("q", "k", "v", "gate", "bias")


def inputs(clips, tokens, heads, size, dtype=jnp.float32, padded=False):
    """Arguments of the operation, and the cotangent of its output."""
    rng = np.random.default_rng(tokens)
    q, k, v, dout = (rng.normal(size=(clips, tokens, heads, size)) for _ in range(4))
    gate, bias = rng.uniform(0.5, 2.0, (clips, heads, tokens, 1)), rng.normal(size=(heads, tokens, tokens))
    padding = np.arange(tokens) >= rng.integers(tokens // 2, tokens, (clips, 1)) if padded else None
    arrays = [jnp.asarray(x, dtype) for x in (q, k, v)] + [jnp.asarray(x, jnp.float32) for x in (gate, bias)]
    return [*arrays, None if padding is None else jnp.asarray(padding)], dout


def plain(q, k, v, gate, bias, padding):
    """The operation by its formula, differentiated by jax."""
    scores = jnp.einsum("BPNH,BSNH->BNPS", q, k, precision="highest") * q.shape[-1] ** -0.5 + gate * bias
    if padding is not None:
        scores = jnp.where(padding[:, None, None], MASKED, scores)
    return jnp.einsum("BNPS,BSNH->BPNH", jax.nn.softmax(scores, -1), v, precision="highest")


def value_and_gradients(function, arguments, dout):
    *arrays, padding = arguments
    out, back = jax.vjp(lambda *x: function(*x, padding), *arrays)
    return [out, *back(dout.astype(out.dtype))]


def exact(arguments, dout):
    """Output and gradients of `plain` in float64."""
    with jax.enable_x64(True):
        double = [x if x is None or x.dtype == bool else jnp.asarray(np.asarray(x, np.float64)) for x in arguments]
        return [np.asarray(x) for x in value_and_gradients(plain, double, jnp.asarray(dout))]


def errors(results, expected):
    """Largest difference of each result, relative to its largest value."""
    pairs = zip(("out", *NAMES), results, expected, strict=True)
    return {name: np.abs(np.asarray(a, np.float64) - b).max() / np.abs(b).max() for name, a, b in pairs}


@pytest.mark.parametrize("padded", [False, True], ids=["whole clips", "padded clips"])
@pytest.mark.parametrize("sizes", [(3, 96, 4, 64), (2, 41, 3, 16), (1, 8, 1, 8), (2, 496, 2, 64)], ids=str)
def test_equals_plain_attention(sizes, padded):
    arguments, dout = inputs(*sizes, padded=padded)
    results = jax.jit(lambda *x: value_and_gradients(gated_attention, x, dout))(*arguments)
    assert max(errors(results, exact(arguments, dout)).values()) < 3e-6


def test_bfloat16_is_as_exact_as_plain_attention():
    arguments, dout = inputs(2, 96, 4, 64, jnp.bfloat16, padded=True)
    expected = exact(arguments, dout)
    ours = errors(value_and_gradients(gated_attention, arguments, dout), expected)
    theirs = errors(value_and_gradients(plain, arguments, dout), expected)
    assert all(ours[name] < 2 * max(theirs[name], 2**-9) for name in ours), (ours, theirs)


def on_tpu(arguments, dout):
    """Output and gradients of the TPU kernels in interpret mode."""
    q, k, v, gate, bias, padding = arguments
    out, lse = gated_attention_tpu.forward(bias, q, k, v, gate, padding, interpret=True)
    dout = jnp.asarray(dout, out.dtype)
    dbias, gradients = gated_attention_tpu.backward(bias, q, k, v, gate, padding, lse, dout, interpret=True)
    return [out, *gradients, dbias]


@pytest.mark.parametrize("padded", [False, True], ids=["whole clips", "padded clips"])
@pytest.mark.parametrize("sizes", [(3, 41, 2, 16), (2, 128, 3, 64), (2, 600, 1, 16)], ids=["padded", "whole", "blocks"])
def test_tpu_kernels_equal_plain_attention(sizes, padded):
    """Positions that are padded in the kernel, fill the lanes, and come in five blocks of queries."""
    arguments, dout = inputs(*sizes, padded=padded)
    assert max(errors(on_tpu(arguments, dout), exact(arguments, dout)).values()) < 3e-6


def test_tpu_kernels_in_bfloat16():
    arguments, dout = inputs(2, 96, 2, 64, jnp.bfloat16, padded=True)
    expected = exact(arguments, dout)
    kernels, theirs = (
        errors(f(arguments, dout), expected) for f in (on_tpu, functools.partial(value_and_gradients, plain))
    )
    assert all(kernels[name] < 2 * max(theirs[name], 2**-9) for name in kernels), (kernels, theirs)


def test_tpu_kernels_of_a_clip_that_is_padding_everywhere():
    arguments, dout = inputs(2, 24, 2, 16)
    arguments[-1] = jnp.array([[False], [True]]).repeat(24, 1)
    out, *gradients = on_tpu(arguments, dout)
    for array in (out, *gradients[:4]):
        assert np.isfinite(array).all()
        assert not np.asarray(array[1]).any()


@pytest.mark.parametrize("sizes", [(2, 1, 2), (1, 2, 1), (4, 1, 1)], ids=str)
def test_on_a_mesh(sizes):
    """Clips that divide the devices and clips that do not; three heads do not divide a tensor axis of two."""
    with jax.set_mesh(make_mesh(*sizes, devices=jax.devices()[: np.prod(sizes)])):
        for clips, heads in ((4, 4), (3, 3)):
            arguments, dout = inputs(clips, 24, heads, 8, padded=True)
            results = jax.jit(lambda *x, dout=dout: value_and_gradients(gated_attention, x, dout))(*arguments)
            assert max(errors(results, exact(arguments, dout)).values()) < 3e-6


def test_a_clip_that_is_padding_everywhere():
    arguments, dout = inputs(2, 24, 2, 8)
    arguments[-1] = jnp.array([[False], [True]]).repeat(24, 1)
    out, *gradients = value_and_gradients(gated_attention, arguments, dout)
    assert np.abs(out[0]).max() > 0
    for array in (out, *gradients[:4]):
        assert np.isfinite(array).all()
        assert not np.asarray(array[1]).any()


@pytest.mark.parametrize(("policy", "products"), [("none", 7), ("attention", 7), ("full", 8)])
def test_remat_keeps_the_output_if_the_policy_names_it(policy, products):
    """Two products forward; five backward, one of them for the scores again; one more if the sum was not saved."""
    arguments, dout = inputs(2, 24, 2, 8)
    run = functools.partial(gated_attention, padding=None)
    run = run if policy == "none" else jax.checkpoint(run, policy=REMAT[policy], prevent_cse=False)
    loss = lambda *x: (run(*x) * dout).sum()  # noqa: E731
    text = str(jax.make_jaxpr(jax.grad(loss, argnums=range(5)))(*arguments[:-1]))
    branches = 2  # one for CPUs, one for other platforms; heads of 8 have no TPU kernel
    assert text.count("dot_general") == branches * products
