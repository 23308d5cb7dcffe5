"""Prompts to logits, losses and gradients, against the official training forward pass."""

import jax
import numpy as np
import pytest
from flax import nnx

from nlm_jax.convert.table import official
from nlm_jax.train.loss import answer_scores, per_segment

BATCHES = ("batch1", "batch2", "batch3_truncated")


@pytest.fixture
def check(arrays, limit):
    def compare(ours, file, name, mask=None):
        theirs = arrays(file)[name]
        difference = np.abs(np.asarray(ours) - theirs)
        assert difference.shape == theirs.shape
        assert (difference if mask is None else difference[mask]).max() <= max(limit(f"{file}.npz", name), 1e-6)

    return compare


def scores_of_examples(model, batch):
    """Correct tokens, mean loss and answer tokens of each row."""
    scores = jax.jit(lambda state, batch: answer_scores(nnx.merge(model.graphdef, state), batch))(model.state, batch)
    total, right, count = (np.asarray(per_segment(x, batch.answer_segment, 1))[:, 0] for x in (*scores, batch.weights))
    return right, total / count, count


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("weights", ["model", "fitted"])
def test_logits_and_losses(load_model, batches, batch_for, arrays, check, reference_fbank, weights, name):
    model, (prompts, texts, audios) = load_model(weights), batches(name)
    golden = arrays("train_forward")
    file = "train_forward" if weights == "model" else "fitted_forward"
    check(model.loss(prompts, texts, audios), file, f"{name}__loss")
    if f"{name}__logits" in arrays(file):
        real = golden[f"{name}__attention_mask"].astype(bool)
        check(model.logits(prompts, texts, audios), file, f"{name}__logits", real)
    right, each, count = scores_of_examples(model, batch_for(model, name))
    check(each, file, f"{name}__per_example_loss")
    np.testing.assert_array_equal(right, arrays(file)[f"{name}__correct_per_sample"])
    np.testing.assert_array_equal(count, arrays(file)[f"{name}__total_per_sample"])
    assert (right.sum(), count.sum()) == (arrays(file)[f"{name}__correct"], arrays(file)[f"{name}__total"])


@pytest.mark.parametrize("name", BATCHES)
def test_labels(model, batch_for, arrays, name):
    """Targets, their positions and the lengths of the rows are the official ones."""
    batch, golden = batch_for(model, name), arrays("train_forward")
    labels = np.full(golden[f"{name}__labels"].shape, -100)
    for row in range(batch.rows):
        used = np.asarray(batch.weights)[row] > 0
        labels[row, np.asarray(batch.answer_index)[row][used] + 1] = np.asarray(batch.targets)[row][used]
    np.testing.assert_array_equal(labels, golden[f"{name}__labels"])
    np.testing.assert_array_equal(batch.segments, golden[f"{name}__attention_mask"])


def test_input_embeddings(model, batch_for, check, arrays, reference_fbank):
    embed = jax.jit(lambda state, batch: nnx.merge(model.graphdef, state).embed(batch))
    real = arrays("train_forward")["batch1__attention_mask"].astype(bool)
    check(embed(model.state, batch_for(model, "batch1")), "train_forward", "batch1__inputs_embeds", real)


def test_loss_of_the_float64_waveform(model, batches, check, fbank_in):
    fbank_in(np.float64)
    check(model.loss(*batches("batch1")), "train_forward", "batch1__f64wave__loss")


def test_logits_from_the_waveform(model, batches, arrays, limit, fbank_in):
    """With our own filter bank: within the noise of its float32 input, measured here as float32 against float64."""
    args, real = batches("batch1"), arrays("train_forward")["batch1__attention_mask"].astype(bool)
    theirs = arrays("train_forward")["batch1__logits"]
    ours = np.abs(np.asarray(model.logits(*args)) - theirs)[real].max()
    fbank_in(np.float64)
    noise = np.abs(np.asarray(model.logits(*args)) - theirs)[real].max()
    assert ours <= 3 * noise + limit("train_forward.npz", "batch1__logits")


def test_merging_alpha(load_model, batches, batch_for, arrays, limit, reference_fbank):
    """merging.npz has no noise of its own; the limits are those of the same arrays with the whole adapter."""
    model, real = load_model("fitted", 0.5), arrays("train_forward")["batch1__attention_mask"].astype(bool)
    args, theirs = batches("batch1"), arrays("merging")
    logits = np.abs(np.asarray(model.logits(*args)) - theirs["fitted__batch1__logits_alpha_0p5"])[real].max()
    assert logits <= limit("fitted_forward.npz", "batch1__logits")
    loss = abs(model.loss(*args) - theirs["fitted__batch1__loss_alpha_0p5"])
    assert loss <= limit("fitted_forward.npz", "batch1__loss")
    _, each, _ = scores_of_examples(model, batch_for(model, "batch1"))
    each = np.abs(each - theirs["fitted__batch1__per_example_loss_alpha_0p5"]).max()
    assert each <= limit("fitted_forward.npz", "batch1__per_example_loss")


def test_every_gradient(model, batch_for, arrays, golden_set, limit, reference_fbank):
    """Official names, layer-wise decay of 0.6 in force, no clipping; zero if the exact gradient is zero."""
    batch = batch_for(model, "batch1")

    @jax.jit
    def gradient(state, batch):
        def loss(state):
            nll, _ = answer_scores(nnx.merge(model.graphdef, state), batch)
            return nll.sum() / batch.weights.sum()

        return jax.grad(loss)(state)

    grads = {"/".join(map(str, p)): np.asarray(g[...]) for p, g in nnx.to_flat_state(gradient(model.state, batch))}
    golden, compared = arrays("grads"), set()
    groups = golden_set.read("optimizer.json")["groups"]
    trained = {*groups["weight_decay"], *groups["no_weight_decay"]} - {"beats.predictor.weight", "beats.predictor.bias"}
    for rule in official(model.config).rules:
        ours = grads[rule.path]
        for i in range(len(ours)) if rule.stacked else (None,):
            name = rule.at(i)
            if name not in golden:  # the small set has the first layers
                assert name not in trained or golden_set.is_small, name
                if name.startswith("beats.predictor"):
                    assert not ours.any()
                continue
            ours_i = rule.op.theirs(ours if i is None else ours[i])
            assert ours_i.shape == golden[name].shape
            assert np.abs(ours_i - golden[name]).max() <= max(limit("grads.npz", name), 1e-6), name
            compared.add(name)
    assert compared == set(golden)


def test_one_query_gives_self_attention_no_gradient(model, batch_for):
    batch = batch_for(model, "batch2")
    gradient = jax.jit(jax.grad(lambda s, batch: answer_scores(nnx.merge(model.graphdef, s), batch)[0].sum()))
    grads = gradient(model.state, batch)
    for name in ("query", "key"):
        leaves = jax.tree.leaves(grads["qformer"]["layers"]["self_attn"][name])
        assert all(not np.asarray(leaf).any() for leaf in leaves)
