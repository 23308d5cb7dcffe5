"""A tiny model and packed batches of noise, shared by the training, sharding and resume tests."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import soundfile
from flax import nnx

from nlm_jax.core.batch import Batch
from nlm_jax.data.prepare import Options, prepare
from nlm_jax.mesh.build import make_mesh
from nlm_jax.mesh.place import shardings
from nlm_jax.mesh.rules import rules
from nlm_jax.models.naturelm import NatureLM
from nlm_jax.models.presets import preset
from nlm_jax.train.optim import OptimConfig, optimizer, schedule
from nlm_jax.train.partition import Components, trainable
from nlm_jax.train.state import make_init
from nlm_jax.train.step import make_step

SAMPLES = 16_000


def model_config(*, dropout: float = 0.0, layers: int = 2):
    """The tiny preset with fewer layers; without dropout and layerdrop unless asked."""
    cfg = preset("tiny")
    llama = dataclasses.replace(cfg.llama, layers=layers, lora=dataclasses.replace(cfg.llama.lora, dropout=dropout))
    beats = dataclasses.replace(cfg.beats, layers=layers, layerdrop=dropout / 2)
    qformer = dataclasses.replace(cfg.qformer, layers=1, dropout=dropout)
    return dataclasses.replace(cfg, beats=beats, qformer=qformer, llama=llama)


def batch(index: int, *, rows: int = 8, clips: int = 2, length: int = 32, answers: int = 6, vocab: int = 512) -> Batch:
    """Packed rows of noise, a pure function of `index`: two examples and two clips per row."""
    rng = np.random.default_rng(index)
    vectors = preset("tiny").qformer.vectors(SAMPLES)
    half = length // 2
    tokens = rng.integers(1, vocab, (rows, length)).astype(np.int32)
    slot = np.full((rows, length), -1, np.int32)
    for clip in range(2):
        start = clip * half + 2
        slot[:, start : start + vectors] = clip * vectors + np.arange(vectors)
    tokens[slot >= 0] = 0
    segments = np.repeat(np.array([1, 2], np.int32), half)[None].repeat(rows, 0)
    positions = np.tile(np.arange(half, dtype=np.int32), 2)[None].repeat(rows, 0)
    index_, weights, owner = (np.zeros((rows, answers), t) for t in (np.int32, np.float32, np.int32))
    for row in range(rows):
        second = 1 + int(rng.integers(0, 3))
        places = [half - 3, half - 2, *(length - 1 - second + np.arange(second))]
        n = len(places)
        index_[row, :n], weights[row, :n], owner[row, :n] = places, 1.0, [1, 1] + [2] * second
    targets = np.where(weights > 0, rng.integers(1, vocab, (rows, answers)), 0).astype(np.int32)
    audio = np.zeros((rows, clips, SAMPLES), np.float32)
    audio[:, :2] = rng.uniform(-0.5, 0.5, (rows, 2, SAMPLES))
    return Batch(
        audio=audio,
        audio_length=np.full((rows, clips), SAMPLES, np.int32),
        tokens=tokens,
        positions=positions,
        segments=segments,
        audio_slot=slot,
        answer_index=index_,
        targets=targets,
        weights=weights,
        answer_segment=owner,
    )


@dataclasses.dataclass
class Session:
    """A state on a mesh and the jitted step for it."""

    mesh: jax.sharding.Mesh
    graphdef: nnx.GraphDef
    shardings: object
    state: object
    step: object


def session(
    sizes=(1, 8, 1),
    *,
    cfg=None,
    components=None,
    optim=None,
    steps=100,
    accumulate=1,
    seed=0,
    devices=None,
) -> Session:
    """Everything a step needs, on a mesh of `sizes` (data, fsdp, tensor)."""
    cfg = cfg or model_config()
    optim = optim or OptimConfig(peak_lr=1e-3, warmup_steps=0, steps_per_epoch=steps)
    tx = optimizer(optim, steps)
    mesh = make_mesh(*sizes, devices=devices)

    def build():
        return NatureLM(cfg, rngs=nnx.Rngs(params=seed))

    init = make_init(build, tx, trainable(components or Components()), base_dtype="float32")
    places = shardings(jax.eval_shape(init), mesh, rules())
    graphdef = nnx.graphdef(jax.eval_shape(build))
    step = make_step(graphdef, tx, schedule(optim, steps), seed=seed, accumulate=accumulate)
    with jax.set_mesh(mesh):
        state = jax.jit(init, out_shardings=places)()
    return Session(mesh, graphdef, places, state, jax.jit(step, donate_argnums=0, out_shardings=(places, None)))


def corpus(folder: pathlib.Path, clips: int = 12) -> pathlib.Path:
    """A prepared directory of `clips` short tones with two tasks, made in `folder`."""
    rng, lines = np.random.default_rng(0), []
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(clips):
        time = np.arange(SAMPLES + 800 * i) / 16_000
        wave = 0.4 * np.sin(2 * np.pi * (300 + 500 * (i % 3)) * time) + 0.01 * rng.normal(size=len(time))
        soundfile.write(folder / f"{i}.wav", wave.astype(np.float32), 16_000)
        pitch = ("low", "middle", "high")[i % 3]
        task, prompt, text = ("pitch", "How high?", pitch) if i % 2 else ("caption", "Describe.", f"A {pitch} tone.")
        row = {"path": f"{i}.wav", "prompt": f"<Audio><AudioHere></Audio> {prompt}", "text": text, "task": task}
        lines.append(json.dumps(row))
    (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    prepare(Options(folder / "rows.jsonl", folder / "prepared"))
    return folder / "prepared"
