"""The tiny BEATs of the demo: an encoder pre-trained on kinds of sounds, without any names.

It stands in for `BEATs_iter3_plus_AS2M_finetuned_on_AS2M`: the released model also starts from an encoder that was
fine-tuned on AudioSet's tags. The tags here are such sound words (chirp, hoot, rattle, flute, rain ...), shared by
several species; no species, spoken word or count is among them. The tag head is discarded, as in NatureLM.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from nlm_jax.audio.fbank import STD, fbank
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.frames import n_frames
from nlm_jax.demo.scene import Scene
from nlm_jax.models.beats.config import BeatsConfig
from nlm_jax.models.beats.model import BeatsModel

SOUND_WORDS = {
    "Chiffchaff": ("chirp", "whistle"),
    "Great Tit": ("whistle", "chatter"),
    "Cuckoo": ("coo", "gurgle"),
    "Wren": ("trill", "tick"),
    "Tawny Owl": ("hoot", "shriek"),
    "Carrion Crow": ("rattle", "caw"),
    "Nightjar": ("churr", "yelp"),
    "Corn Crake": ("rasp", "growl"),
    "Swift": ("squeal", "twitter"),
    "Gray Wolf": ("howl", "bark"),
    "Red Deer": ("roar", "bleat"),
    "Bottlenose Dolphin": ("whistle", "click"),
    "Tree Frog": ("quack", "ratchet"),
    "Midwife Toad": ("beep", "beep"),
    "Marsh Frog": ("croak", "growl"),
    "Field Cricket": ("trill", "tick"),
    "Great Green Bush-cricket": ("buzz", "tick"),
    "American Bullfrog": ("roar", "bleat"),
}
"""Species -> tags of its song and its call, in the style of AudioSet."""


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Schedule of tag pre-training."""

    steps: int = 220
    clips: int = 32
    learning_rate: float = 4e-3
    gain_db: float = 6.0
    """Maximum change of loudness in either direction."""
    seed: int = 0


def tags(scene: Scene) -> tuple[str, ...]:
    """Tags of a scene: kind of sound without the species, and one for several individuals at once."""
    if scene.species:
        chorus = ("chorus",) if scene.count > 1 else ()
        return (SOUND_WORDS[scene.species][scene.kind == "call"], *chorus)
    if scene.domain == "speech":
        return ("speech", "conversation") if scene.count > 1 else ("speech",)
    return (scene.instrument or scene.background,)


def features(waves: Sequence[np.ndarray], batch_size: int = 32) -> Float[np.ndarray, "B frames mel"]:
    """Filter bank of clips of equal length, in half precision; computed once, since training does not change it."""
    jitted = jax.jit(fbank)
    out = np.zeros((len(waves), n_frames(len(waves[0])), 128), np.float16)
    for i in range(0, len(waves), batch_size):
        part = np.stack(waves[i : i + batch_size])
        padded = np.pad(part, ((0, batch_size - len(part)), (0, 0)))
        out[i : i + batch_size] = np.asarray(jitted(jnp.asarray(padded)))[: len(part)]
    return out


def tag_logits(model: BeatsModel, mel: Float[Array, "B frames mel"]) -> Float[Array, "B tags"]:
    """Mean over the tokens of the tag head's logits, as Microsoft's BEATs does."""
    return model.predictor(model.encode(mel, None)).mean(1)


def pretrain(
    mel: Float[np.ndarray, "B frames mel"],
    tags: Sequence[Sequence[str]],
    seconds: float,
    cfg: BeatsConfig,
    schedule: EncoderConfig,
    report: Callable[[int, float], None] | None = None,
) -> tuple[BeatsModel, list[float]]:
    """Trains an encoder from scratch to classify tags.

    Args:
      mel: filter bank of every clip, of which a random crop of `seconds` is used each time.
      tags: one or several tags per clip; the target probability is equal for each of them.
      report: called with (step, loss) after every step.

    Returns:
      the encoder and its loss at every step.
    """
    kinds = sorted({tag for clip in tags for tag in clip})
    labels = np.array([[kind in clip for kind in kinds] for clip in tags], np.float32)
    labels /= labels.sum(1, keepdims=True)
    first = np.array([kinds.index(clip[0]) for clip in tags])
    share = 1.0 / np.sqrt(np.bincount(first)[first])  # between uniform over clips and uniform over tags
    model = BeatsModel(dataclasses.replace(cfg, predictor_classes=len(kinds)), rngs=nnx.Rngs(params=schedule.seed))
    graphdef, state = nnx.split(model)
    rate = optax.warmup_cosine_decay_schedule(
        0.0, schedule.learning_rate, min(20, schedule.steps // 10), schedule.steps + 1, schedule.learning_rate / 20
    )
    tx = optax.chain(optax.clip_by_global_norm(2.0), optax.adamw(rate, weight_decay=0.01))

    @jax.jit
    def step(state, opt, mel, targets):
        def loss(state):
            logits = tag_logits(nnx.merge(graphdef, state), mel)
            return optax.softmax_cross_entropy(logits, targets).mean()

        value, grads = jax.value_and_grad(loss)(state)
        updates, opt = tx.update(grads, opt, state)
        return optax.apply_updates(state, updates), opt, value

    opt, rng, losses = tx.init(state), np.random.default_rng([schedule.seed, 6]), []
    frames, loudness = n_frames(round(seconds * SAMPLE_RATE)), schedule.gain_db * np.log(10) / 10 / (2 * STD)
    for i in range(schedule.steps):
        chosen = rng.choice(len(mel), schedule.clips, replace=len(mel) < schedule.clips, p=share / share.sum())
        starts = rng.integers(0, mel.shape[1] - frames + 1, len(chosen))
        crops = np.stack([mel[c, s : s + frames] for c, s in zip(chosen, starts, strict=True)]).astype(np.float32)
        crops += rng.uniform(-loudness, loudness, (len(chosen), 1, 1)).astype(np.float32)
        state, opt, value = step(state, opt, jnp.asarray(crops), jnp.asarray(labels[chosen]))
        losses.append(float(value))
        if report:
            report(i, losses[-1])
    return nnx.merge(graphdef, state), losses
