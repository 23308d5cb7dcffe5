"""The tiny BEATs of the demo: an encoder that knows kinds of sounds before it meets any name.

It plays the part of `BEATs_iter3_plus_AS2M_finetuned_on_AS2M`: the released model also starts from an encoder that was
fine-tuned on AudioSet's tags. The tags here are such sound words (chirp, hoot, rattle, flute, rain ...), shared by
several species; no species, spoken word or count is among them. The tag head is thrown away, as it is in NatureLM.
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
from nlm_jax.demo.corpus import Scene
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
"""Song and call in words of AudioSet's kind."""


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Schedule of tag pre-training."""

    steps: int = 220
    clips: int = 32
    learning_rate: float = 4e-3
    gain_db: float = 6.0
    """Largest change of loudness, up or down."""
    seed: int = 0


def tags(scene: Scene) -> tuple[str, ...]:
    """What a listener who knows no species would call the sound, and a tag for several that sing or talk at once."""
    if scene.species:
        several = ("chorus",) if scene.count > 1 else ()
        return (SOUND_WORDS[scene.species][scene.kind == "call"], *several)
    if scene.domain == "speech":
        return ("speech", "conversation") if scene.count > 1 else ("speech",)
    return (scene.instrument or scene.background,)


def features(waves: Sequence[np.ndarray], at_once: int = 32) -> Float[np.ndarray, "B frames mel"]:
    """Filter bank of clips of one length, once: it does not change while the encoder learns. Kept in half precision."""
    made = jax.jit(fbank)
    out = np.zeros((len(waves), n_frames(len(waves[0])), 128), np.float16)
    for i in range(0, len(waves), at_once):
        part = np.stack(waves[i : i + at_once])
        padded = np.pad(part, ((0, at_once - len(part)), (0, 0)))
        out[i : i + at_once] = np.asarray(made(jnp.asarray(padded)))[: len(part)]
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
    """An encoder trained from scratch to tell tags apart, and its loss at every step.

    Args:
      mel: filter bank of every clip; each time a clip is heard, `seconds` of it are cut out at random.
      tags: of every clip, one or several; the tag head is to give each of them an equal share.
      report: called with (step, loss) after every step.
    """
    kinds = sorted({tag for clip in tags for tag in clip})
    labels = np.array([[kind in clip for kind in kinds] for clip in tags], np.float32)
    labels /= labels.sum(1, keepdims=True)
    first = np.array([kinds.index(clip[0]) for clip in tags])
    share = 1.0 / np.sqrt(np.bincount(first)[first])  # between every clip alike and every tag alike
    model = BeatsModel(dataclasses.replace(cfg, predictor_classes=len(kinds)), rngs=nnx.Rngs(params=schedule.seed))
    graphdef, state = nnx.split(model)
    rate = optax.warmup_cosine_decay_schedule(
        0.0, schedule.learning_rate, min(20, schedule.steps // 10), schedule.steps + 1, schedule.learning_rate / 20
    )
    tx = optax.chain(optax.clip_by_global_norm(2.0), optax.adamw(rate, weight_decay=0.01))

    @jax.jit
    def step(state, opt, mel, wanted):
        def loss(state):
            logits = tag_logits(nnx.merge(graphdef, state), mel)
            return optax.softmax_cross_entropy(logits, wanted).mean()

        value, grads = jax.value_and_grad(loss)(state)
        updates, opt = tx.update(grads, opt, state)
        return optax.apply_updates(state, updates), opt, value

    opt, rng, losses = tx.init(state), np.random.default_rng([schedule.seed, 6]), []
    frames, loudness = n_frames(round(seconds * SAMPLE_RATE)), schedule.gain_db * np.log(10) / 10 / (2 * STD)
    for i in range(schedule.steps):
        chosen = rng.choice(len(mel), schedule.clips, replace=len(mel) < schedule.clips, p=share / share.sum())
        starts = rng.integers(0, mel.shape[1] - frames + 1, len(chosen))
        heard = np.stack([mel[c, s : s + frames] for c, s in zip(chosen, starts, strict=True)]).astype(np.float32)
        heard += rng.uniform(-loudness, loudness, (len(chosen), 1, 1)).astype(np.float32)
        state, opt, value = step(state, opt, jnp.asarray(heard), jnp.asarray(labels[chosen]))
        losses.append(float(value))
        if report:
            report(i, losses[-1])
    return nnx.merge(graphdef, state), losses
