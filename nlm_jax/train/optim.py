"""AdamW with the reference's clipping, decay groups and learning-rate schedule."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import optax

from nlm_jax.core.errors import UserError
from nlm_jax.core.tree import map_named, name

NO_DECAY = ("bias", "ln", "bn")
"""Parts of a parameter's official name that spare it from decay; our paths hold them exactly where those names do.
Hence the table of relative positions (`relative_bias`) is spared; query tokens, `grep_a`, weight norm, LoRA are not."""


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """The defaults are those of the reference's two stages."""

    peak_lr: float = 9e-5
    min_lr: float = 1e-5
    warmup_steps: int = 5000
    warmup_start_lr: float = 0.0
    """Learning rate of step 0; below 0 means no ramp: the peak from the start."""
    steps_per_epoch: int = 10_000
    """Only the warm-up looks at it: it restarts if an epoch ends before the warm-up does, as in the reference."""
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.05
    max_grad_norm: float = 2.0
    max_grad_value: float = 1.0

    def __post_init__(self):
        for field in ("peak_lr", "min_lr", "warmup_steps", "weight_decay"):
            if not getattr(self, field) >= 0:
                raise UserError(f"optim.{field}={getattr(self, field)}: must not be negative")
        for field in ("eps", "max_grad_norm", "max_grad_value"):
            if not getattr(self, field) > 0:
                raise UserError(f"optim.{field}={getattr(self, field)}: must be above 0; a large number limits nothing")
        for field in ("beta1", "beta2"):
            if not 0 <= getattr(self, field) < 1:
                raise UserError(f"optim.{field}={getattr(self, field)}: must lie in [0, 1)")


def schedule(config: OptimConfig, steps: int):
    """Learning rate by step: linear warm-up, then a cosine over all `steps` that is not offset by the warm-up.

    Returns:
      a function of an int32 step (an array or a number), to a float32 scalar.
    """
    if config.steps_per_epoch < 1 or steps < 1:
        raise UserError(f"optim: steps ({steps}) and steps_per_epoch ({config.steps_per_epoch}) must be at least 1")
    peak, low = config.peak_lr, config.min_lr
    start = peak if config.warmup_start_lr < 0 else config.warmup_start_lr

    def learning_rate(step):
        within = (step % config.steps_per_epoch) / max(config.warmup_steps, 1)
        ramp = jnp.minimum(peak, start + (peak - start) * within)
        cosine = low + 0.5 * (peak - low) * (1.0 + jnp.cos(math.pi * step / steps))
        return jnp.where(step < config.warmup_steps, ramp, cosine).astype(jnp.float32)

    return learning_rate


def decays(path: str, leaf) -> bool:
    """Whether weight decay falls on a parameter: rank 2 and more (the stacked layer axis not counted), by name."""
    rank = leaf.ndim - ("/layers/" in f"/{path}")
    return rank >= 2 and not any(part in path for part in NO_DECAY)


def optimizer(config: OptimConfig, steps: int) -> optax.GradientTransformation:
    """Clip by global norm, then by value; Adam; decoupled decay; the schedule."""
    return optax.chain(
        clip_by_norm(config.max_grad_norm),
        optax.clip(config.max_grad_value),
        optax.scale_by_adam(config.beta1, config.beta2, config.eps),
        decay(config.weight_decay),
        optax.scale_by_learning_rate(schedule(config, steps)),
    )


def clip_by_norm(limit: float) -> optax.GradientTransformation:
    """torch's clip_grad_norm_: the factor is limit / (norm + 1e-6), and it is applied only below 1."""

    def update(updates, params=None):
        factor = jnp.minimum(1.0, limit / (optax.tree.norm(updates) + 1e-6))
        return jax.tree.map(lambda g: g * factor, updates)

    return optax.stateless(update)


def decay(rate: float) -> optax.GradientTransformation:
    """Adds rate * parameter if `decays` is set for it; multiplied by the learning rate afterwards, as in AdamW."""

    def update(updates, params):
        return map_named(lambda path, u, p: u + rate * p if decays(path, p) else u, updates, params)

    return optax.stateless(update)


def groups(params) -> dict[str, list[str]]:
    """Paths with and without weight decay, for the parameter table and for tests."""
    named = {name(path): leaf for path, leaf in jax.tree.leaves_with_path(params)}
    return {
        "weight_decay": [p for p, leaf in named.items() if decays(p, leaf)],
        "no_weight_decay": [p for p, leaf in named.items() if not decays(p, leaf)],
    }
