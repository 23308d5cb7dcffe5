"""Utilities for tests: a tiny model and its config, the built-in tokenizer, a small corpus written in a second."""

import dataclasses
import json
import pathlib

import numpy as np
import soundfile
from jaxtyping import Float

from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.data.text import Tokenizer
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.models.presets import preset

NAMES = ("Low Hummer", "Middle Piper", "High Chirper", "Hissing Beetle")
"""The animals of `write_corpus`: three pitches and a noise. (The corpus of the demo is more realistic.)"""


def tiny_config(vocab: int | None = None) -> NatureLMConfig:
    """The "tiny" preset with one layer everywhere and the vocabulary of the built-in tokenizer, or of `vocab` rows."""
    cfg = preset("tiny")
    rows = tokenizer().vocab_size if vocab is None else vocab
    return dataclasses.replace(
        cfg,
        beats=dataclasses.replace(cfg.beats, layers=1),
        qformer=dataclasses.replace(cfg.qformer, layers=1),
        llama=dataclasses.replace(cfg.llama, layers=1, vocab=rows),
    )


def tiny_model(seed: int = 0):
    """An `nlm_jax.NatureLM` of `tiny_config` with random weights: it answers immediately, with noise.

    Args:
      seed: of the weights.
    """
    # Imported here: tests of the data tools use this module for its recordings and need no model.
    import jax.numpy as jnp
    from flax import nnx

    from nlm_jax.convert.checkpoint import Checkpoint
    from nlm_jax.core.tree import named_leaves
    from nlm_jax.generate.api import NatureLM
    from nlm_jax.models.naturelm import NatureLMModel

    cfg, rng = tiny_config(), np.random.default_rng(seed)
    shapes = nnx.eval_shape(lambda: NatureLMModel(cfg, rngs=nnx.Rngs(params=0)))
    weights = {}
    for path, leaf in named_leaves(nnx.state(shapes)).items():
        # numpy draws them without compiling a program; scales of norms are near 1.
        noise = rng.normal(size=leaf.shape).astype(np.float32) * 0.1
        weights[path] = jnp.asarray(noise + (path.rsplit("/", 1)[-1] in ("scale", "weight_g", "grep_a")))
    return NatureLM(Checkpoint(cfg, weights), tokenizer())


def tokenizer() -> Tokenizer:
    """The built-in tokenizer, which needs no download."""
    return Tokenizer.from_pretrained("embedded")


def tone(name: str, seconds: float, rng: np.random.Generator) -> Float[np.ndarray, "T"]:
    """A clip of one of `NAMES`, f32[T] at 16 kHz."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    kind = NAMES.index(name)
    hz = (300, 1200, 4000, 0)[kind] * rng.uniform(0.95, 1.05)
    wave = np.sin(2 * np.pi * hz * t) if hz else rng.standard_normal(len(t)) * 0.5
    wave = wave * (np.sin(2 * np.pi * rng.uniform(2, 4) * t) > 0)
    return (0.3 * wave + 0.01 * rng.standard_normal(len(t))).clip(-1, 1).astype(np.float32)


def write_corpus(
    folder: str | pathlib.Path, *, clips: int = 16, seconds: float = 1.0, seed: int = 0
) -> dict[str, pathlib.Path]:
    """Writes a corpus in the official JSONL format: per clip a name and a detection question.

    Args:
      folder: for the annotation files and recordings.
      clips: number per split; the animals alternate.
      seconds: duration of each clip.

    Returns:
      split ("train", "valid") -> annotation file.
    """
    folder = pathlib.Path(folder)
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    rng, annotations = np.random.default_rng(seed), {}
    for split in ("train", "valid"):
        rows = []
        for i in range(clips):
            name, path = NAMES[i % len(NAMES)], f"audio/{split}-{i:03d}.{'flac' if i % 2 else 'wav'}"
            soundfile.write(folder / path, tone(name, seconds, rng), SAMPLE_RATE, subtype="PCM_16")
            other = NAMES[(i + 1 + i // len(NAMES)) % len(NAMES)]
            detection = f"Which of these, if any, are present in the audio recording? {NAMES[0]}, {other}"
            present = name if name in (NAMES[0], other) else "None"
            for task, prompt, text in (
                ("common-name", "What is the common name for the focal species in the audio?", name),
                ("common-simple-detection", detection, present),
            ):
                rows.append({"path": path, "prompt": prompt, "text": text, "task": task, "split": split})
        annotations[split] = folder / f"{split}.jsonl"
        annotations[split].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return annotations
