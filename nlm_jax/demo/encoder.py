"""The tiny BEATs of the demo: an encoder that learns general sound tags before it meets any name.

It plays the part of `BEATs_iter3_plus_AS2M_finetuned_on_AS2M`: the released model also starts from an encoder trained on
AudioSet's tags. The tags here are as coarse as AudioSet's (bird, frog, song, speech, flute, rain, several voices ...): no
species, word or count is among them. The tag head is BEATs' own (`predictor`, mean of the tokens' logits).
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from nlm_jax.audio.fbank import fbank
from nlm_jax.demo.corpus import Scene
from nlm_jax.demo.sound import BACKGROUNDS, INSTRUMENTS
from nlm_jax.demo.species import BY_NAME
from nlm_jax.models.beats.config import BeatsConfig
from nlm_jax.models.beats.model import Beats

GROUPS = {"Aves": "bird", "Mammalia": "mammal", "Amphibia": "frog", "Insecta": "insect"}
TAGS = (
    *("animal", "speech", "music", "environment"),
    *GROUPS.values(),
    *(f"{group} {kind}" for group in GROUPS.values() for kind in ("song", "call")),
    "several voices",
    *INSTRUMENTS,
    *BACKGROUNDS,
)


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Schedule of tag pre-training."""

    steps: int = 200
    clips: int = 32
    learning_rate: float = 3e-3
    seed: int = 0


def tags(scene: Scene) -> tuple[str, ...]:
    """What a listener who knows no species would write on the clip."""
    found = [scene.domain, scene.background]
    if scene.species:
        group = GROUPS[BY_NAME[scene.species].lineage.split()[1]]
        found += [group, f"{group} {scene.kind}"]
    if scene.count > 1:
        found.append("several voices")
    if scene.instrument:
        found.append(scene.instrument)
    return tuple(found)


def tag_matrix(scenes: Sequence[Scene]) -> Float[np.ndarray, "B tags"]:
    """f32[B, tags]: 1 where a scene has a tag of `TAGS`."""
    return np.array([[float(tag in tags(scene)) for tag in TAGS] for scene in scenes], np.float32)


def features(waves: Sequence[np.ndarray], at_once: int = 64) -> Float[np.ndarray, "B frames mel"]:
    """Filter bank of every clip, once: it does not change while the encoder learns."""
    made = jax.jit(fbank)
    pad = -len(waves) % at_once
    padded = [*waves, *[np.zeros_like(waves[0])] * pad]
    parts = [np.asarray(made(jnp.asarray(np.stack(padded[i : i + at_once])))) for i in range(0, len(padded), at_once)]
    return np.concatenate(parts)[: len(waves)]


def tag_logits(model: Beats, mel: Float[Array, "B frames mel"]) -> Float[Array, "B tags"]:
    """Mean over the tokens of the tag head's logits, as Microsoft's BEATs does."""
    return model.predictor(model.encode(mel, None)).mean(1)


def pretrain(
    mel: Float[np.ndarray, "B frames mel"],
    wanted: Float[np.ndarray, "B tags"],
    cfg: BeatsConfig,
    schedule: EncoderConfig,
    report: Callable[[int, float], None] | None = None,
) -> tuple[Beats, list[float]]:
    """An encoder trained on tags from scratch, and its loss at every step. `report(step, loss)` is called now and then."""
    model = Beats(dataclasses.replace(cfg, predictor_classes=wanted.shape[1]), rngs=nnx.Rngs(params=schedule.seed))
    graphdef, state = nnx.split(model)
    rate = optax.warmup_cosine_decay_schedule(0.0, schedule.learning_rate, 20, schedule.steps + 1, schedule.learning_rate / 10)
    tx = optax.chain(optax.clip_by_global_norm(2.0), optax.adamw(rate, weight_decay=0.01))

    @jax.jit
    def step(state, opt, mel, wanted):
        def loss(state):
            logits = tag_logits(nnx.merge(graphdef, state), mel)
            return optax.sigmoid_binary_cross_entropy(logits, wanted).sum(1).mean()

        value, grads = jax.value_and_grad(loss)(state)
        updates, opt = tx.update(grads, opt, state)
        return optax.apply_updates(state, updates), opt, value

    opt, rng, losses = tx.init(state), np.random.default_rng([schedule.seed, 6]), []
    for i in range(schedule.steps):
        chosen = rng.choice(len(mel), schedule.clips, replace=False)
        state, opt, value = step(state, opt, jnp.asarray(mel[chosen]), jnp.asarray(wanted[chosen]))
        losses.append(float(value))
        if report and (i % 20 == 0 or i + 1 == schedule.steps):
            report(i, losses[-1])
    return nnx.merge(graphdef, state), losses
