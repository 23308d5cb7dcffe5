"""A tiny model and packed batches of noise, shared by the training, sharding and resume tests."""

import dataclasses
import functools
import json
import pathlib
from typing import Any

import jax
import numpy as np
import soundfile
from flax import nnx

from nlm_jax.core.batch import Batch
from nlm_jax.core.tree import map_named, named_leaves
from nlm_jax.mesh.build import make_mesh
from nlm_jax.mesh.rules import rules
from nlm_jax.mesh.sharding import place_batch
from nlm_jax.models.naturelm import NatureLMModel
from nlm_jax.models.presets import preset
from nlm_jax.nn.int8 import SCALE, int8_base, quantize, scale_path
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare
from nlm_jax.train.optim import OptimConfig, optimizer, schedule
from nlm_jax.train.partition import Components, trainable
from nlm_jax.train.state import TrainState, state_shardings
from nlm_jax.train.step import make_step

SAMPLES = 16_000
QUICK = {"xla_backend_optimization_level": 0}
"""Compile for the compiler's speed, not for the program's."""


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


def build(cfg, int8: bool = False):
    model = NatureLMModel(cfg, rngs=nnx.Rngs(params=0))
    return int8_base(model) if int8 else model


@functools.cache
def params(cfg, seed: int = 0) -> dict[str, np.ndarray]:
    """Path -> weights drawn with numpy: random initialisation under jit takes too long to compile."""
    rng, leaves = np.random.default_rng(seed), {}
    for path, leaf in named_leaves(nnx.state(nnx.eval_shape(lambda: build(cfg)))).items():
        noise = rng.normal(size=leaf.shape).astype(np.float32)
        last = path.rsplit("/", 1)[-1]
        if last in ("scale", "weight_g", "grep_a"):
            leaves[path] = 1.0 + 0.1 * noise
        else:
            leaves[path] = noise * {"bias": 0.02, "embedding": 0.5}.get(
                last, 0.5 * leaf.shape[max(0, leaf.ndim - 2)] ** -0.5
            )
    return leaves


def in_int8(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`params` with the kernels that an int8 base holds as integers and scales."""
    leaves = dict(values)
    for path in values:
        if path.startswith("llama/layers/") and path.endswith("/kernel"):
            leaves[path], leaves[scale_path(path)] = map(np.asarray, quantize(jax.numpy.asarray(values[path])))
    return leaves


@dataclasses.dataclass
class Session:
    """A state on a mesh and the jitted step for it."""

    mesh: jax.sharding.Mesh
    shardings: Any
    state: Any
    step: Any

    def run(self, index: int, **shape):
        """One step on batch `index`; its metrics as numpy."""
        with jax.set_mesh(self.mesh):
            self.state, metrics = self.step(self.state, place_batch(batch(index, **shape), self.mesh))
            return jax.device_get(metrics)


def session(sizes=(1, 8, 1), *, cfg=None, tx=None, components=None, steps=100, accumulate=1, devices=None,
            preset="default", values=None) -> Session:  # fmt: skip
    """Everything a step needs, on a mesh of `sizes` (data, fsdp, tensor); AdamW unless `tx` is given.

    `values` are the weights, `params(cfg)` by default; the base is in int8 where they are (`in_int8`).
    """
    cfg = cfg or model_config()
    optim = OptimConfig(peak_lr=1e-3, warmup_steps=0)
    tx = tx or optimizer(optim, steps)
    mesh = make_mesh(*sizes, devices=devices)
    values = values or params(cfg)
    model = nnx.eval_shape(lambda: build(cfg, any(path.endswith(SCALE) for path in values)))
    graphdef, train, frozen = nnx.split(model, trainable(components or Components()), ...)

    def init(train, frozen):
        return TrainState(jax.numpy.zeros((), np.int32), train, frozen, tx.init(train))

    abstract = jax.eval_shape(init, train, frozen)
    places = state_shardings(abstract, mesh, rules(preset))
    train, frozen = (map_named(lambda p, leaf, s: jax.device_put(values[p], s), t, s) for t, s in
                     ((train, places.trainable), (frozen, places.frozen)))  # fmt: skip
    step = make_step(
        graphdef,
        tx,
        schedule(optim, steps),
        seed=0,
        accumulate=accumulate,
        rules=rules(preset),
    )
    with jax.set_mesh(mesh):
        opt = jax.jit(lambda t: tx.init(t), out_shardings=places.opt)(train)
    state = TrainState(jax.device_put(np.int32(0), places.step), train, frozen, opt)
    jitted = jax.jit(step, donate_argnums=0, out_shardings=(places, None), compiler_options=QUICK)
    return Session(mesh, places, state, jitted)


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
    prepare(PrepareOptions(folder / "rows.jsonl", folder / "prepared"))
    return folder / "prepared"
