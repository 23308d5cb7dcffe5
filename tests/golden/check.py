"""Prints the parity table from the arrays in this folder; README.md says how they were made.

    python tests/golden/check.py

Every function below is a row of the table: it gives the stored weights and inputs to this package and compares the
results with what the official PyTorch implementation made of them. A difference may be ten times what one float32
rounding step of the weights does to the array (noise.json). Exit status 1 if one is larger.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # the models are tiny, compiling is all

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from golden_set import FLOOR, STEPS, Comparison, GoldenSet, equal, row

from nlm_jax.audio.fbank import fbank, mel_filterbank, povey_window
from nlm_jax.convert import formats, naturelm
from nlm_jax.convert.leaves import build
from nlm_jax.convert.table import official
from nlm_jax.core.files import read_json
from nlm_jax.core.tree import named_leaves
from nlm_jax.data.text import DEFAULT_END_SYM, answer_tokens, prompt_parts
from nlm_jax.generate.api import NatureLM
from nlm_jax.generate.teacher_forcing import example_batch
from nlm_jax.models.beats.model import patches, reduce_mask
from nlm_jax.models.presets import preset
from nlm_jax.models.qformer.model import windows
from nlm_jax.nn.rope import RopeScaling, inverse_frequencies, rope_tables
from nlm_jax.train.loss import answer_scores
from nlm_jax.train.optim import OptimConfig, clip_by_norm, decays, optimizer, schedule
from nlm_jax.train.partition import Components, component, trainable
from nlm_jax.train.state import TrainState
from nlm_jax.train.step import make_step

CLIPS = ("clip_2s", "clip_4p7s")
BATCHES = ("batch1", "batch2", "batch3_truncated")
ZERO_GRADIENT = ("self_attn.k_proj.bias", "crossattention.self.key.bias")
"""Parameters whose gradient is zero in exact arithmetic: AdamW amplifies rounding noise there."""


class Checker:
    """Runs the model on the inputs of a golden set."""

    def __init__(self, golden: GoldenSet):
        self.golden = golden
        self.arrays = golden.arrays

    @functools.cached_property
    def model(self) -> NatureLM:
        return self.load()

    def load(self, merging_alpha: float = 1.0) -> NatureLM:
        folder = self.golden.folder
        options = {"qformer_config": folder / "qformer_config.json", "merging_alpha": merging_alpha}
        return NatureLM.from_pretrained(folder / "model", dtype="float32", **options)

    @functools.cached_property
    def net(self):
        return nnx.merge(self.model.graphdef, self.model.state)

    def features(self, clip: str) -> jax.Array:
        """The official filter-bank features of a clip, [1, frames, 128]."""
        return jnp.asarray(self.arrays("fbank")[f"{clip}__f32"])[None]

    def batch(self, name: str):
        return example_batch(self.model.tokenizer, self.model.config, *self.golden.batch(name))

    def compare(self, file: str, name: str, ours: Any, mask: np.ndarray | None = None) -> Comparison:
        theirs = self.arrays(file)[name]
        difference = np.abs(np.asarray(ours).reshape(theirs.shape) - theirs)
        difference = difference if mask is None else difference[mask]
        return Comparison(f"{file} {name}", difference.max(), self.golden.rounding(f"{file}.npz", name), FLOOR)


def filter_bank(check: Checker) -> Iterator[Comparison]:
    stored, noise = check.arrays("fbank"), check.golden.read("noise.json")["float32_input_noise"]["fbank"]
    for clip in CLIPS:
        ours = fbank(jnp.asarray(check.golden.clip(clip))[None])[0]
        yield Comparison(f"fbank {clip}", np.abs(ours - stored[f"{clip}__f32"]).max(), noise[clip])
    yield Comparison("filters", np.abs(mel_filterbank() - stored["mel_filterbank"]).max(), floor=2e-5)
    yield Comparison("window", np.abs(povey_window() - stored["povey_window"]).max(), floor=2e-7)


def encoder(check: Checker) -> Iterator[Comparison]:
    beats, clip = check.net.beats, "clip_4p7s"
    compare = functools.partial(check.compare, "beats")
    yield compare("clip_2s__output", beats.encode(check.features("clip_2s")))
    x = beats.patch_embedding(patches(check.features(clip)))
    yield compare(f"{clip}__patch_embedding", x[0].reshape(-1, 8, x.shape[-1]).transpose(2, 0, 1))
    x = beats.patch_norm(x)
    yield compare(f"{clip}__layer_norm", x)
    x = beats.patch_proj(x)
    yield compare(f"{clip}__post_extract_proj", x)
    convolved = beats.pos_conv(x)
    yield compare(f"{clip}__pos_conv", convolved)
    x = beats.norm(x + convolved)
    yield compare(f"{clip}__encoder_layer_norm", x)
    for i in range(beats.cfg.layers):
        layer = jax.tree.map(lambda leaf, i=i: leaf[i], beats.layers)
        x = layer(x, beats.relative_bias(x.shape[1]), None)
        yield compare(f"{clip}__layer_{i}", x)
    yield compare("position_bias", beats.relative_bias(96))
    yield compare("pos_conv_effective_weight", beats.pos_conv.weight())


def encoder_with_padding(check: Checker) -> Iterator[Comparison]:
    stored = check.arrays("beats")
    frames = reduce_mask(jnp.asarray(stored["batch2__padding_mask"]), 468)
    yield equal("beats batch2__frame_padding_mask", np.asarray(frames), stored["batch2__frame_padding_mask"])
    yield equal("token mask", np.asarray(reduce_mask(frames, 232)), stored["batch2__token_padding_mask"])
    out = check.net.beats(jnp.asarray(stored["batch2__raw_wav"]), jnp.asarray(stored["batch2__padding_mask"]))
    yield check.compare("beats", "batch2__output", out)


def qformer(check: Checker) -> Iterator[Comparison]:
    net, stored = check.net, check.arrays("qformer")
    compare = functools.partial(check.compare, "qformer")
    for clip in CLIPS:
        tokens = net.ln_audio(net.beats.encode(check.features(clip)))
        yield compare(f"{clip}__qformer_output", net.qformer(tokens))
        yield compare(f"{clip}__audio_embeds", net.audio_proj(net.qformer(tokens)))
    yield compare("clip_4p7s__windows", windows(tokens, 17, 17))
    queries = jnp.broadcast_to(stored["three_queries__input"], (4, *stored["three_queries__input"].shape[1:]))
    yield compare("three_queries__output", net.qformer.attend(queries, jnp.asarray(stored["clip_4p7s__windows"][:4])))


def waveform_to_vectors(check: Checker) -> Iterator[Comparison]:
    noise = check.golden.read("noise.json")["float32_input_noise"]["audio_embeds"]
    for clip in CLIPS:
        name = f"{clip}__audio_embeds"
        difference = np.abs(
            check.model.encode_audio(check.golden.clip(clip)[None]) - check.arrays("qformer")[name]
        ).max()
        yield Comparison(f"qformer {name}", difference, noise[clip] + check.golden.rounding("qformer.npz", name))


def rope(check: Checker) -> Iterator[Comparison]:
    stored, scaling = check.arrays("rope"), RopeScaling("llama3", 8.0)
    for size, name in ((16, "inv_freq"), (128, "inv_freq_head_dim_128")):
        yield equal(f"rope {name}", np.asarray(inverse_frequencies(size, 5e5, scaling)), stored[name])
    tables = rope_tables(jnp.asarray(stored["positions"])[None], 16, 5e5, scaling)
    for table, name in zip(tables, ("cos", "sin"), strict=True):
        yield Comparison(f"rope {name}", np.abs(table[0, :, 0] - stored[name][:, :8]).max(), floor=FLOOR)


def prompts(check: Checker) -> Iterator[Comparison]:
    cases, tokenizer = check.golden.read("prompts.json"), check.model.tokenizer
    for i, case in enumerate(cases["prompts"]):
        yield equal(f"prompt {i}", prompt_parts(tokenizer, case["prompt"]), case["part_token_ids"])
    for i, case in enumerate(cases["texts"]):
        ids = answer_tokens(tokenizer, case["text"], DEFAULT_END_SYM, cases["max_txt_len"])
        yield equal(f"answer {i}", ids, case["target_token_ids"])
    for name in BATCHES:
        batch, stored = check.batch(name), check.arrays("train_forward")
        labels = np.full(stored[f"{name}__labels"].shape, -100)
        for i, used in enumerate(np.asarray(batch.weights) > 0):
            labels[i, np.asarray(batch.answer_index)[i][used] + 1] = np.asarray(batch.targets)[i][used]
        yield equal(f"labels of {name}", labels, stored[f"{name}__labels"])


def logits(check: Checker) -> Iterator[Comparison]:
    real = check.arrays("train_forward")["batch2__attention_mask"].astype(bool)
    ours = check.model.logits(*check.golden.batch("batch2"))
    yield check.compare("train_forward", "batch2__logits", ours, real)


def losses(check: Checker) -> Iterator[Comparison]:
    for name in BATCHES:
        yield check.compare("train_forward", f"{name}__loss", check.model.loss(*check.golden.batch(name)))


def official_names(config, leaves: dict[str, Any]) -> Iterator[tuple[str, str, np.ndarray]]:
    """(official name, path, array) of the leaves, stacked ones layer by layer."""
    for rule in official(config).rules:
        if rule.path in leaves:
            leaf = np.asarray(leaves[rule.path])
            for i in range(len(leaf)) if rule.stacked else (None,):
                yield rule.at(i), rule.path, rule.op.theirs(leaf if i is None else leaf[i])


def gradients(check: Checker) -> Iterator[Comparison]:
    @jax.jit
    def gradient(state, batch):
        def loss(state):
            nll, _ = answer_scores(nnx.merge(check.model.graphdef, state), batch)
            return nll.sum() / batch.weights.sum()

        return jax.grad(loss)(state)

    leaves = named_leaves(gradient(check.model.state, check.batch("batch1")))
    stored = check.arrays("grads")
    for name, _, ours in official_names(check.model.config, leaves):
        if name in stored:
            yield check.compare("grads", name, ours)


def optimizer_steps(check: Checker) -> Iterator[Comparison]:
    info, stored = check.golden.read("optimizer.json"), check.arrays("clip")
    grads = [jnp.asarray(stored[f"grad_{i}"]) for i in range(2)]
    clipped, _ = clip_by_norm(2.0).update(grads, None)
    for i, grad in enumerate(clipped):
        yield Comparison(f"clip {i}", np.abs(grad - stored[f"after_norm_{i}"]).max(), floor=FLOOR)
    yield from decay_groups(check, info)
    config = without_dropout(check.model.config)
    whole, settings = build(config, check.model.checkpoint.leaves), info["config"]
    optim = OptimConfig(
        peak_lr=settings["init_lr"], min_lr=settings["min_lr"], warmup_steps=settings["warmup_steps"],
        steps_per_epoch=info["iters_per_epoch"],
    )  # fmt: skip
    total = settings["max_epoch"] * info["iters_per_epoch"]
    tx, rate = optimizer(optim, total), schedule(optim, total)
    _, train, frozen = nnx.split(whole, trainable(Components()), ...)
    state = TrainState(jnp.zeros((), jnp.int32), train, frozen, tx.init(train))
    step = jax.jit(make_step(nnx.graphdef(whole), tx, rate, seed=0))
    noise = max(check.golden.read("noise.json")["files"]["optimizer.json"]["loss_abs_diff_per_step"])
    for i, expected in enumerate(info["steps"]):
        state, metrics = step(state, check.batch(expected["batch"]))
        loss = float(metrics["loss_sum"] / metrics["weight"])
        yield Comparison(f"loss of step {i}", abs(loss - expected["loss"]), noise)
    for name, _, ours in official_names(config, named_leaves(state.trainable)):
        if name in check.arrays("optimizer_params_after_6") and not name.endswith(ZERO_GRADIENT):
            yield check.compare("optimizer_params_after_6", name, ours)


def decay_groups(check: Checker, info: dict[str, Any]) -> Iterator[Comparison]:
    leaves = named_leaves(check.model.state)
    groups: dict[str, set[str]] = {"weight_decay": set(), "no_weight_decay": set()}
    for name, path, _ in official_names(check.model.config, leaves):
        if component(path) in Components().named():
            groups["weight_decay" if decays(path, leaves[path]) else "no_weight_decay"].add(name)
    for group, names in groups.items():
        yield equal(group, names, set(info["groups"][group]) - {"beats.predictor.weight", "beats.predictor.bias"})


def without_dropout(config):
    """The official steps were made in evaluation mode."""
    lora = dataclasses.replace(config.llama.lora, dropout=0.0)
    return dataclasses.replace(
        config,
        beats=dataclasses.replace(config.beats, layerdrop=0.0),
        qformer=dataclasses.replace(config.qformer, dropout=0.0),
        llama=dataclasses.replace(config.llama, lora=lora),
    )


def answers(check: Checker) -> Iterator[Comparison]:
    cases = [case for case in check.golden.read("generate.json")["cases"] if is_quick(case)]
    models = {1.0: check.model} | {
        alpha: check.load(alpha) for alpha in {case["config"]["merging_alpha"] for case in cases} - {1.0}
    }
    for i, case in enumerate(cases):
        clips, how = iter(case["audio"]), case["config"]
        options = ("max_new_tokens", "num_beams", "length_penalty", "repetition_penalty")
        ids = models[how["merging_alpha"]].generate(
            [[check.golden.clip(next(clips)) for _ in range(count)] for count in case["audio_chunk_sizes"]],
            case["prompts"],
            **{name: how[name] for name in options},
            right_pad=case.get("right_padded_quirk", False),
            stop_batch_at_id_2=case["contains_id_2"],
            return_ids=True,
        )
        yield equal(f"generate case {i}", ids, [until_end(row) for row in case["token_ids"]])


def is_quick(case: dict[str, Any]) -> bool:
    """Every greedy case, and the short beams of one clip; `pytest -m slow tests/oracle` decodes the others too."""
    how = case["config"]
    return how["num_beams"] == 1 or (case["audio"] == ["clip_4p7s"] and how["max_new_tokens"] <= 24)


def until_end(row: list[int]) -> list[int]:
    """The tokens up to the first end symbol, 396 or 399."""
    return row[: next((i for i, token in enumerate(row) if token in (396, 399)), len(row) - 1) + 1]


def tensor_names(check: Checker) -> Iterator[Comparison]:
    real = check.golden.read("official_state_dict_keys_real.json")
    for dtype, column in (("bfloat16", "dtype_when_built_for_cuda"), ("float32", "dtype_when_built_for_cpu")):
        names, dropped = naturelm.official_layout(preset("llama-3.1-8b"), dtype)
        expected = {name: (tuple(e["shape"]), e[column]) for name, e in real["state_dict"].items()}
        yield equal(f"names, {dtype}", names, expected)
        yield equal(f"duplicates, {dtype}", dropped, real["shared_tensors_removed_by_safetensors_save_model"])


def round_trip(check: Checker) -> Iterator[Comparison]:
    source = check.golden.folder / "model"
    opened = formats.open_checkpoint(source, qformer_config=check.golden.folder / "qformer_config.json")
    with tempfile.TemporaryDirectory() as folder:
        native, out = pathlib.Path(folder, "nlm"), pathlib.Path(folder, "out")
        formats.save(opened.lazily(), native, "nlm")
        formats.save(formats.open_checkpoint(native).lazily(), out)
        name = "model.safetensors"
        yield equal(name, (out / name).read_bytes(), (source / name).read_bytes())
        ours, theirs = (read_json(path / "config.json") for path in (out, source))
        yield equal("config.json", ours | {"llama_path": ""}, theirs | {"llama_path": ""})


Component = Callable[[Checker], Iterator[Comparison]]
FROM_WAVEFORMS: dict[str, Component] = {
    "filter bank": filter_bank,
    "waveform to projected vectors": waveform_to_vectors,
    "RoPE tables": rope,
    "prompts, token ids, labels": prompts,
    "greedy and beam answers": answers,
    "names and shapes of the 8B checkpoint": tensor_names,
    "import and export": round_trip,
}
"""Rows that use the filter bank of this package, or none."""
FROM_OFFICIAL_FEATURES: dict[str, Component] = {
    "BEATs, every stage": encoder,
    "BEATs with padding masks": encoder_with_padding,
    "windows, Q-Former, projection": qformer,
    "logits": logits,
    "loss": losses,
    "gradients": gradients,
    "six AdamW steps": optimizer_steps,
}
"""Rows that begin with the official features: `GoldenSet.reference_fbank` says why."""


def main() -> int:
    """Prints the table. Returns the exit status."""
    check, failed = Checker(GoldenSet()), []
    print(f"{'component':<39} {'arrays':>6} {'largest difference':>18} {'one rounding step':>17}  passed")
    for components in (FROM_WAVEFORMS, FROM_OFFICIAL_FEATURES):
        official_features = components is FROM_OFFICIAL_FEATURES
        with check.golden.reference_fbank() if official_features else contextlib.nullcontext():
            for name, compare in components.items():
                compared = list(compare(check))
                failed += [c for c in compared if not c.passed]
                print(row(name, compared), flush=True)
    for c in failed:
        print(f"{c.array}: differs by {c.difference:.2e}, allowed {max(STEPS * c.rounding, c.floor):.2e}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
