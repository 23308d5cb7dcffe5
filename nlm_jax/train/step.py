"""One optimisation step and one evaluation step, both pure functions of (state, batch)."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from nlm_jax.core.batch import Batch
from nlm_jax.mesh.rules import Rules
from nlm_jax.train.loss import answer_scores
from nlm_jax.train.state import TrainState


def make_step(
    graphdef, tx: optax.GradientTransformation, learning_rate, *, seed: int, accumulate: int = 1, rules: Rules = ()
):
    """`step(state, batch) -> (state, metrics)`; jit it with the state donated.

    Everything random follows from (seed, step), so nothing random is saved. The loss is the mean over all answer
    tokens of the batch: sums and weights of the micro-batches are added up and divided once, so that `accumulate`
    parts give what one large batch gives.

    Args:
      accumulate: number of parts a batch is computed in, one after another; it divides the rows of every device.
      rules: where the layers are to gather their weights (`mesh.place.gather_weights`).
    """

    def sums(trainable, frozen, batch, key):
        nll, hit = answer_scores(nnx.merge(graphdef, trainable, frozen), batch, key)
        return nll.sum(), {"weight": batch.weights.sum(), "correct": hit.sum()}

    gradient = jax.value_and_grad(sums, has_aux=True)

    def step(state: TrainState, batch: Batch):
        with nnx.logical_axis_rules(rules):
            return one(state, batch)

    def one(state: TrainState, batch: Batch):
        key = jax.random.fold_in(jax.random.key(seed), state.step)

        def part(carry, xs):
            (total, aux), grads = gradient(state.trainable, state.frozen, xs[0], xs[1])
            return jax.tree.map(jnp.add, carry, (total, aux, grads)), None

        if accumulate == 1:
            (total, aux), grads = gradient(state.trainable, state.frozen, batch, key)
        else:
            zero = jax.tree.map(jnp.zeros_like, state.trainable)
            start = (jnp.zeros(()), {"weight": jnp.zeros(()), "correct": jnp.zeros(())}, zero)
            xs = (split_rows(batch, accumulate), jax.random.split(key, accumulate))
            (total, aux, grads), _ = jax.lax.scan(part, start, xs)

        grads = jax.tree.map(lambda g: g / jnp.maximum(aux["weight"], 1.0), grads)
        updates, opt = tx.update(grads, state.opt, state.trainable)
        metrics = {
            "loss_sum": total,
            **aux,
            "grad_norm": optax.tree.norm(grads),
            "lr": learning_rate(state.step),
            "tokens": jnp.sum(batch.segments > 0),
            "vectors": jnp.sum(batch.audio_slot >= 0),
        }
        trainable = optax.apply_updates(state.trainable, updates)
        return dataclasses.replace(state, step=state.step + 1, trainable=trainable, opt=opt), metrics

    return step


def split_rows(batch: Batch, parts: int) -> Batch:
    """[B, ...] -> [parts, B / parts, ...]; part j takes rows j, j + parts, ..., so every device keeps its own rows."""
    return jax.tree.map(lambda a: jnp.moveaxis(a.reshape(-1, parts, *a.shape[1:]), 1, 0), batch)


@functools.partial(jax.jit, static_argnums=0)
def row_scores(graphdef, state, batch: Batch, examples: Int[Array, "B"]) -> tuple[Float[Array, "B 3"], Int[Array, "B"]]:
    """Each row's sums of negative log-likelihood, correct tokens and weights, as in evaluation; whole on every process.

    Takes the whole model as one state, so that stages which train different parts share one compilation.

    Args:
      examples: number of each row's example, returned with the sums: rows of several processes may be interleaved.
    """
    nll, hit = answer_scores(nnx.merge(graphdef, state), batch, None)
    sums = jnp.stack([nll.sum(1), hit.sum(1), batch.weights.sum(1)], axis=1)
    if not jax.sharding.get_abstract_mesh().axis_names:
        return sums, examples
    return jax.lax.with_sharding_constraint((sums, examples), PartitionSpec())
