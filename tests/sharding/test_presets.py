"""Every mesh gives the single-device loss and gradients, and compiles once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_training as tiny

from nlm_jax.core.tree import named_leaves
from nlm_jax.nn.int8 import SCALE, dequantize, scale_path

MESHES = [(1, 8, 1), (8, 1, 1), (2, 2, 2), (1, 2, 4)]


def gradients(sizes, devices=None, **options):
    """(loss, norm, gradient by path) of two batches: with SGD at rate 1 a gradient is the change of the parameter."""
    session = tiny.session(sizes, tx=optax.sgd(1.0), devices=devices, **options)
    results = []
    for index in range(2):
        before = {p: np.asarray(x) for p, x in named_leaves(session.state.trainable).items()}
        metrics = session.run(index)
        after = named_leaves(session.state.trainable)
        grads = {p: before[p] - np.asarray(after[p]) for p in before}
        results.append((metrics["loss_sum"] / metrics["weight"], metrics["grad_norm"], grads))
    assert session.step._cache_size() == 1
    return results


@functools.cache
def reference():
    return gradients((1, 1, 1), devices=tuple(jax.devices()[:1]))


def agree(ours, theirs, limit=1e-5):
    for (loss, norm, grads), (loss2, norm2, grads2) in zip(ours, theirs, strict=True):
        assert abs(loss - loss2) <= limit
        np.testing.assert_allclose(norm, norm2, rtol=limit)
        for path in grads:
            # before - after is exact to one step of float32 of the parameter, which may be 1 or 2 (norm scales)
            np.testing.assert_allclose(grads[path], grads2[path], rtol=0, atol=limit, err_msg=path)


@pytest.mark.parametrize("sizes", MESHES, ids=lambda s: "x".join(map(str, s)))
def test_mesh_equals_one_device(sizes):
    agree(gradients(sizes), reference())


def test_a_replicated_base_equals_one_device():
    agree(gradients((1, 8, 1), preset="replicated-base"), reference())


@pytest.mark.parametrize("remat", ["full", "mlp"])  # "mlp" saves all that "attention" saves
def test_remat_does_not_change_gradients(remat):
    cfg = dataclasses.replace(tiny.model_config(), remat=remat)
    agree(gradients((2, 4, 1), cfg=cfg), reference())


def test_an_int8_base_equals_the_dequantized_base():
    """On a mesh, with gradients through it; against the same weights in float32 on one device."""
    values = tiny.in_int8(tiny.params(tiny.model_config()))
    plain = {p: x for p, x in values.items() if not p.endswith(SCALE)}
    for path in [p for p, x in plain.items() if x.dtype == np.int8]:
        plain[path] = np.asarray(dequantize(*(jnp.asarray(values[p]) for p in (path, scale_path(path)))))
    expected = gradients((1, 1, 1), devices=tuple(jax.devices()[:1]), values=plain)
    agree(gradients((2, 2, 2), values=values), expected)
    # The effect of int8 itself: the loss of the unquantized base is about 6.
    for (loss, *_), (unquantized, *_) in zip(expected, reference(), strict=True):
        assert 0 < abs(loss - unquantized) < 0.01 * unquantized


def test_gradients_are_not_all_zero():
    for loss, norm, grads in reference():
        assert 1 < loss < 20
        assert norm > 0.1
        nonzero = {path for path, g in grads.items() if g.any()}
        # A shift of all keys does not change a softmax, and a single query attends to itself for any query and key.
        zero = {
            p for p in set(grads) - nonzero if "key/" not in p and "self_attn/query" not in p and "k_proj/bias" not in p
        }
        assert not zero


def test_accumulation_equals_one_large_batch():
    """Micro-batches with different numbers of answer tokens: sums are divided once."""
    agree(gradients((1, 4, 1), accumulate=2, devices=tuple(jax.devices()[:4])), reference())
