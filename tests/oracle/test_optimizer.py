"""Schedule, clipping, decay groups and six AdamW steps, against the official optimiser."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nlm_jax.convert.leaves import build
from nlm_jax.convert.table import official
from nlm_jax.core.tree import named_leaves
from nlm_jax.train.loss import answer_scores
from nlm_jax.train.optim import OptimConfig, clip_by_norm, decays, optimizer, schedule
from nlm_jax.train.partition import Components, component, trainable
from nlm_jax.train.state import TrainState
from nlm_jax.train.step import make_step

ZERO_GRADIENT = ("self_attn.k_proj.bias", "crossattention.self.key.bias")
"""Exactly zero in theory: AdamW's steps are rounding noise there, see the README of the golden arrays."""


@pytest.fixture(scope="module")
def info(golden):
    return json.loads((golden / "optimizer.json").read_text())


def without_dropout(model):
    """The golden steps were computed in evaluation mode."""
    cfg = model.config
    lora = dataclasses.replace(cfg.llama.lora, dropout=0.0)
    return dataclasses.replace(
        cfg,
        beats=dataclasses.replace(cfg.beats, layerdrop=0.0),
        qformer=dataclasses.replace(cfg.qformer, dropout=0.0),
        llama=dataclasses.replace(cfg.llama, lora=lora),
    )


def official_leaves(config, leaves):
    """Official name -> array of our leaves, slice by slice."""
    for rule in official(config).rules:
        if rule.path in leaves:
            leaf = leaves[rule.path]
            for i in range(len(leaf)) if rule.stacked else (None,):
                yield rule.at(i), rule.path, rule.op.theirs(leaf if i is None else leaf[i])


def test_schedule(info):
    for table in info["lr_tables"]:
        config = OptimConfig(
            peak_lr=table["init_lr"],
            min_lr=table["min_lr"],
            warmup_steps=table["warmup_steps"],
            warmup_start_lr=float(table["warmup_start_lr"]),
            steps_per_epoch=table["iters_per_epoch"],
        )
        rate = schedule(config, len(table["lr"]))
        ours = [float(rate(jnp.int32(step))) for step in range(len(table["lr"]))]
        np.testing.assert_allclose(ours, table["lr"], rtol=1e-6, atol=1e-10)


def test_clipping(arrays):
    golden = arrays("clip")
    grads = [jnp.asarray(golden[f"grad_{i}"]) for i in range(2)]
    by_norm, _ = clip_by_norm(2.0).update(grads, clip_by_norm(2.0).init(grads))
    for i, grad in enumerate(by_norm):
        np.testing.assert_allclose(grad, golden[f"after_norm_{i}"], rtol=1e-6)
        np.testing.assert_allclose(jnp.clip(grad, -1.0, 1.0), golden[f"after_value_{i}"], rtol=1e-6)


def test_small_gradients_are_not_scaled():
    grads = {"a": jnp.array([0.3, -0.4])}
    clipped, _ = clip_by_norm(2.0).update(grads, None)
    np.testing.assert_array_equal(clipped["a"], grads["a"])


def test_decay_groups(model, info):
    """The official groups name by name; only the encoder's unused head is in neither of ours."""
    leaves = named_leaves(nnx.state(model.checkpoint.model()))
    ours = {"weight_decay": set(), "no_weight_decay": set()}
    for name, path, _ in official_leaves(model.config, leaves):
        if component(path) in Components().named():
            ours["weight_decay" if decays(path, leaves[path]) else "no_weight_decay"].add(name)
    unused = {"beats.predictor.weight", "beats.predictor.bias"}
    for group, names in ours.items():
        assert names == set(info["groups"][group]) - unused


def test_six_steps(model, batch_for, arrays, info, golden, reference_fbank):
    noise = json.loads((golden / "noise.json").read_text())["files"]
    config = without_dropout(model)
    whole = build(config, model.checkpoint.leaves)
    before = {name: np.asarray(x) for name, _, x in official_leaves(config, named_leaves(nnx.state(whole)))}
    settings = info["config"]
    optim = OptimConfig(
        peak_lr=settings["init_lr"],
        min_lr=settings["min_lr"],
        warmup_steps=settings["warmup_steps"],
        steps_per_epoch=info["iters_per_epoch"],
    )
    steps = settings["max_epoch"] * info["iters_per_epoch"]
    tx, rate = optimizer(optim, steps), schedule(optim, steps)
    _, train, frozen = nnx.split(whole, trainable(Components()), ...)
    state = TrainState(jnp.zeros((), jnp.int32), train, frozen, tx.init(train))
    step = jax.jit(make_step(nnx.graphdef(whole), tx, rate, seed=0))

    # The noise of two of the losses is exactly 0 by chance: the largest of the six is the bound of all.
    loss_limit = 10 * max(noise["optimizer.json"]["loss_abs_diff_per_step"])
    for expected in info["steps"]:
        state, metrics = step(state, batch_for(model, expected["batch"]))
        assert abs(metrics["loss_sum"] / metrics["weight"] - expected["loss"]) <= loss_limit
        np.testing.assert_allclose(metrics["grad_norm"], expected["grad_norm_before_clip"], rtol=1e-5)
        np.testing.assert_allclose(metrics["lr"], expected["lr"], rtol=1e-6)
    for name, loss in info["loss_after_6_steps"].items():
        batch = batch_for(model, name)
        scored = nnx.merge(nnx.graphdef(whole), state.trainable, state.frozen)
        nll, _ = answer_scores(scored, batch)
        assert abs(float(nll.sum() / batch.weights.sum()) - loss) <= loss_limit

    theirs, after = arrays("optimizer_params_after_6"), named_leaves(state.trainable)
    ours = {name: np.asarray(x) for name, _, x in official_leaves(config, after | named_leaves(state.frozen))}
    for name in theirs:
        if name in info["trainable_but_unchanged"]:
            np.testing.assert_array_equal(ours[name], before[name], err_msg=name)
        if not name.endswith(ZERO_GRADIENT):
            allowed = max(10 * noise["optimizer_params_after_6.npz"][name]["max_abs_diff"], 1e-6)
            assert np.abs(ours[name] - theirs[name]).max() <= allowed, name
