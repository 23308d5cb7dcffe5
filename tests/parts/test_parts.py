"""`Beats`, `QFormer` and `Llama`: equal to the whole model, from any checkpoint, of which they read only their part."""

import dataclasses
import json
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import soundfile
import tiny_training as tiny
from flax import nnx

from nlm_jax import testing
from nlm_jax.convert import formats, io, run_file
from nlm_jax.convert.checkpoint import Checkpoint
from nlm_jax.core.errors import UserError
from nlm_jax.core.frames import n_tokens
from nlm_jax.core.tree import nest
from nlm_jax.data.text import embedded_directory
from nlm_jax.models import Beats, BeatsModel, Llama, LlamaModel, NatureLMModel, QFormer, QFormerModel
from nlm_jax.nn.attention import attend
from nlm_jax.nn.masks import packed_causal
from nlm_jax.parts import beats as beats_module

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def checkpoint():
    cfg = testing.tiny_config()
    leaves = {path: jnp.asarray(leaf) for path, leaf in tiny.params(cfg).items()}
    return Checkpoint(cfg, leaves, tokenizer=embedded_directory())


@pytest.fixture(scope="module")
def saved(checkpoint, tmp_path_factory):
    """`saved(format)`: the directory of an export."""
    folder, exports = tmp_path_factory.mktemp("exports"), {}

    def save(format):
        if format not in exports:
            formats.save(checkpoint, folder / format, format)
            exports[format] = folder / format
        return exports[format]

    return save


@pytest.fixture(scope="module")
def waves():
    return np.random.default_rng(0).uniform(-0.5, 0.5, (2, 16_000)).astype(np.float32)


@pytest.fixture(scope="module")
def whole(checkpoint, waves):
    """Arrays of the modules within the whole model: encoder tokens with and without a mask, window vectors, logits."""
    graphdef, state = nnx.split(checkpoint.model())
    ids = np.random.default_rng(1).integers(0, checkpoint.config.llama.vocab, (2, 9)).astype(np.int32)
    padding = np.zeros(waves.shape, bool)
    padding[1, 9_000:] = True

    @jax.jit
    def compute(state):
        model = nnx.merge(graphdef, state)
        assert isinstance(model, NatureLMModel)
        sounds = jnp.asarray(waves)
        tokens = model.beats(sounds)
        mask = packed_causal(jnp.ones_like(ids))
        positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
        hidden, _ = model.llama(
            model.llama.embed_tokens(jnp.asarray(ids), jnp.float32),
            positions,
            lambda c, _, q, k, v: (attend(q, k, v, mask), c),
        )
        return {
            "tokens": tokens,
            "masked": model.beats(sounds, jnp.asarray(padding)),
            "vectors": model.qformer(model.ln_audio(tokens)),
            "projected": model.audio_proj(model.qformer(model.ln_audio(tokens))),
            "encoded": model.encode_audio(sounds),
            "logits": model.llama.logits(hidden),
            "hidden": hidden,
        }

    return {"ids": ids, "padding": padding} | jax.tree.map(np.asarray, compute(state))


def close(ours, theirs):
    """Equal except for rounding: fusion changes the order of additions."""
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max(), rtol=0)


@pytest.mark.parametrize("format", ["naturelm", "nlm", "beats"])
def test_encoder_of_every_export(saved, waves, whole, format):
    encoder = Beats.from_pretrained(saved(format))
    tokens = encoder(waves)
    assert tokens.shape == (2, n_tokens(16_000), encoder.config.width)
    close(tokens, whole["tokens"])
    close(encoder(waves.tolist(), whole["padding"].tolist()), whole["masked"])
    assert np.abs(whole["masked"] - whole["tokens"]).max() > 0.1
    assert isinstance(encoder.module, BeatsModel)
    close(nnx.jit(encoder.module)(jnp.asarray(waves)), whole["tokens"])
    close(jax.jit(lambda x: encoder(x))(jnp.asarray(waves)), whole["tokens"])


def test_encoder_of_microsofts_file(saved, waves, whole):
    pytest.importorskip("torch")
    close(Beats.from_pretrained(saved("beats") / "beats.pt")(waves), whole["tokens"])


@pytest.mark.parametrize("format", ["naturelm", "nlm"])
def test_qformer_of_every_export(saved, whole, format):
    qformer = QFormer.from_pretrained(saved(format))
    close(qformer(whole["tokens"]), whole["vectors"])
    close(whole["projected"], whole["encoded"])  # the three in sequence are the audio pathway of the model
    assert isinstance(qformer.module, QFormerModel)
    assert qformer.config.layers == 1


@pytest.mark.parametrize("format", ["naturelm", "nlm", "llama-merged"])
def test_language_model_of_every_export(saved, whole, format):
    src = saved(format)
    llama = Llama.from_pretrained(src, dtype="float32")
    close(llama(whole["ids"]), whole["logits"])
    close(llama.hidden(whole["ids"].tolist()), whole["hidden"])
    assert llama.tokenizer.decode(llama.tokenizer.encode("A barn owl.")) == "A barn owl."
    assert isinstance(llama.module, LlamaModel)
    padded = np.pad(whole["ids"], ((0, 0), (0, 3)))
    close(llama(padded)[:, : whole["ids"].shape[1]], whole["logits"])


def test_adapter_of_the_language_model_is_interpolated(saved, checkpoint, whole):
    base = Llama.from_pretrained(saved("nlm"), dtype="float32", merging_alpha=0.0)
    bare = {path: leaf * 0 if "/lora_" in path else leaf for path, leaf in checkpoint.leaves.items()}
    close(base(whole["ids"]), Llama(dataclasses.replace(checkpoint, leaves=bare))(whole["ids"]))
    assert np.abs(np.asarray(base(whole["ids"])) - whole["logits"]).max() > 0.1


def test_computation_in_bfloat16(saved, waves, whole):
    tokens = Beats.from_pretrained(saved("beats"), dtype="bfloat16")(waves)
    assert tokens.dtype == np.float32
    difference = np.abs(np.asarray(tokens) - whole["tokens"]).max()
    assert 1e-4 < difference < 0.5 * np.abs(whole["tokens"]).max()


def test_weights_on_a_mesh(saved, waves, whole):
    from nlm_jax.mesh.build import make_mesh

    encoder = Beats.from_pretrained(saved("nlm"), mesh=make_mesh(1, 8, 1))
    assert any(len(leaf.sharding.device_set) == 8 for leaf in jax.tree.leaves(encoder.state))
    close(encoder(waves), whole["tokens"])


# --- only the part is read --------------------------------------------------------------------------------------------


def broken(src: pathlib.Path, out: pathlib.Path, spared: str) -> pathlib.Path:
    """A copy of an export in which all tensors are NaN except those that match `spared`: reading one is an error."""
    shutil.copytree(src, out)
    tensors = {name: np.array(view) for name, view in io.read_tensors(src).items()}
    assert any(re.match(spared, name) for name in tensors)
    for name, tensor in tensors.items():
        if not re.match(spared, name) and tensor.dtype.kind not in "iu":
            tensor[...] = np.nan
    io.write_safetensors(
        out / io.SINGLE, [io.Entry(n, t.shape, t.dtype, lambda t=t: iter((t,))) for n, t in tensors.items()]
    )
    return out


@pytest.mark.parametrize("format", ["naturelm", "nlm"])
def test_only_the_encoder_is_read(saved, tmp_path, waves, whole, format):
    damaged = broken(saved(format), tmp_path / "damaged", r"beats[./]")
    close(Beats.from_pretrained(damaged)(waves), whole["tokens"])
    with pytest.raises(UserError, match="infinity or NaN"):
        QFormer.from_pretrained(damaged)
    with pytest.raises(UserError, match="infinity or NaN"):
        Llama.from_pretrained(damaged)


def test_only_the_qformer_is_read(saved, tmp_path, whole):
    damaged = broken(saved("naturelm"), tmp_path / "damaged", r"ln_audio|audio_Qformer|audio_query_tokens")
    close(QFormer.from_pretrained(damaged)(whole["tokens"]), whole["vectors"])


def test_an_official_directory_without_its_language_model(saved, tmp_path, waves, whole):
    """As on the hub: `llama_path` names a gated model. The encoder and the Q-Former do not need it."""
    folder = tmp_path / "official"
    shutil.copytree(saved("naturelm"), folder)
    shutil.rmtree(folder / "llama")
    config = json.loads((folder / "config.json").read_text()) | {"llama_path": "someone/gated"}
    (folder / "config.json").write_text(json.dumps(config))
    close(Beats.from_pretrained(folder)(waves), whole["tokens"])
    close(QFormer.from_pretrained(folder)(whole["tokens"]), whole["vectors"])
    with pytest.raises(UserError, match="llm="):
        Llama.from_pretrained(folder)
    close(
        Llama.from_pretrained(folder, dtype="float32", llm=saved("naturelm") / "llama")(whole["ids"]), whole["logits"]
    )


def test_an_unknown_tensor_of_the_part_is_still_an_error(saved, tmp_path):
    folder = tmp_path / "strange"
    shutil.copytree(saved("naturelm"), folder)
    tensors = dict(io.read_tensors(saved("naturelm"))) | {
        "beats.encoder.layers.0.extra.weight": np.ones((2, 2), np.float32)
    }
    io.write_safetensors(
        folder / io.SINGLE, [io.Entry(n, t.shape, t.dtype, lambda t=t: iter((t,))) for n, t in tensors.items()]
    )
    with pytest.raises(UserError, match=r"beats\.encoder\.layers\.0\.extra\.weight is unknown"):
        Beats.from_pretrained(folder)


@pytest.fixture
def run_over(checkpoint, tmp_path):
    """`run_over(*imports)`: a training run that shifted the queries of the Q-Former, over these imports."""

    def make(*imports):
        workdir = tmp_path / "run"
        trained = {"qformer/embed_norm/bias": checkpoint.leaves["qformer/embed_norm/bias"] + 1}
        with ocp.CheckpointManager(workdir / run_file.CHECKPOINTS / "stage1" / "last") as manager:
            manager.save(3, args=ocp.args.Composite(params=ocp.args.StandardSave(nest(trained))))
        base = {p: checkpoint.leaves[p] for p in ("llama/norm/scale", "beats/norm/scale")}
        run_file.write_run(
            workdir, run_file.Run(checkpoint.config, imports, run_file.digest_base(base), ("stage1",), {})
        )
        return workdir

    return make


def test_encoder_of_a_run_without_its_language_model(run_over, saved, tmp_path, waves, whole):
    moved = str(tmp_path / "moved")
    imports = {"src": str(saved("beats")), "kind": "beats"}, {"src": moved, "kind": "llama", "pad_rows": 0}
    workdir = run_over(*imports)
    close(Beats.from_pretrained(workdir)(waves), whole["tokens"])
    with pytest.raises(UserError, match=re.escape(moved)):
        Llama.from_pretrained(workdir)


@pytest.mark.parametrize("format", ["naturelm", "nlm"])
def test_parts_of_a_run(run_over, saved, checkpoint, tmp_path, waves, whole, format):
    """On an official directory and on our format: trained weights take precedence; the encoder's digest is checked."""
    src = tmp_path / "base"
    shutil.copytree(saved(format), src)
    shutil.rmtree(src / "llama", ignore_errors=True)
    workdir = run_over({"src": str(src), "kind": "auto"})
    close(Beats.from_pretrained(workdir, which="last")(waves), whole["tokens"])
    shifted = checkpoint.leaves | {"qformer/embed_norm/bias": checkpoint.leaves["qformer/embed_norm/bias"] + 1}
    ours = QFormer.from_pretrained(workdir)(whole["tokens"])
    close(ours, np.asarray(QFormer(dataclasses.replace(checkpoint, leaves=shifted))(whole["tokens"])))
    assert np.abs(np.asarray(ours) - whole["vectors"]).max() > 0.01
    other = run_file.read_run(workdir)
    digests = other.digests | {"beats/norm/scale": other.digests["llama/norm/scale"]}
    run_file.write_run(workdir, dataclasses.replace(other, digests=digests))
    with pytest.raises(UserError, match="mismatched checkpoint"):
        Beats.from_pretrained(workdir)
    QFormer.from_pretrained(workdir)


def test_hub_id(saved, monkeypatch, waves, whole):
    fetched = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **_: fetched.append(name) or str(saved("naturelm"))
    )
    close(Beats.from_pretrained("someone/encoder")(waves), whole["tokens"])
    assert set(fetched) == {"someone/encoder"}


# --- invalid input ----------------------------------------------------------------------------------------------------


def test_missing_parts(saved, tmp_path):
    with pytest.raises(UserError, match="holds only beats; give a checkpoint with llama"):
        Llama.from_pretrained(saved("beats"))
    with pytest.raises(UserError, match="holds only llama; give a checkpoint with beats"):
        Beats.from_pretrained(saved("llama-merged"))
    with pytest.raises(UserError, match="no such file"):
        Beats.from_pretrained(tmp_path / "nothing.pt")
    with pytest.raises(UserError, match="float16"):
        Beats.from_pretrained(saved("beats"), dtype="float16")


def test_invalid_waveforms(saved):
    encoder = Beats.from_pretrained(saved("beats"))
    for bad, message in (
        (np.zeros(16_000, np.float32), r"shape \(16000,\): give f32\[B, T\]"),
        (np.zeros((1, 16_000), np.int16), "int16: expected floats"),
        (np.full((1, 16_000), np.nan, np.float32), "NaN"),
        (np.zeros((1, beats_module.MIN_SAMPLES - 1), np.float32), f"zero-pad them to {beats_module.MIN_SAMPLES}"),
        ([[0.0, 0.1], [0.0]], "rows differ in length"),
    ):
        with pytest.raises(UserError, match=message):
            encoder(bad)
    assert encoder(np.zeros((1, beats_module.MIN_SAMPLES), np.float32)).shape == (1, 8, encoder.config.width)


def test_invalid_tokens_and_ids(saved):
    qformer, llama = QFormer.from_pretrained(saved("nlm")), Llama.from_pretrained(saved("nlm"))
    width = qformer.checkpoint.config.beats.width
    for bad, message in (
        (np.zeros((40, width), np.float32), "give f32"),
        (np.zeros((1, 40, width + 1), np.float32), "give f32"),
        (np.zeros((1, 40, width), np.int32), "tokens of int32"),
        (np.zeros((1, 16, width), np.float32), "16 tokens: fewer than the 17"),
    ):
        with pytest.raises(UserError, match=message):
            qformer(bad)
    vocab = llama.config.vocab
    for bad, message in (
        ([1, 2, 3], "give i32"),
        ([[0.5]], "give i32"),
        ([[]], "give i32"),
        ([[vocab]], f"0 to {vocab - 1}"),
        ([[-1]], f"0 to {vocab - 1}"),
        ([[1, 2], [3]], "rows differ in length"),
    ):
        with pytest.raises(UserError, match=message):
            llama(bad)


# --- against the official implementation, and the examples of the documents -------------------------------------------


def test_golden_encoder(golden):
    """Microsoft's file, the official directory and the official .pth have the same encoder, with the golden output.

    From the waveform, for the golden clip without quiet bins: there a float32 filter bank is rounding noise, so
    tests/oracle compares the other clips from golden features.
    """
    pytest.importorskip("torch")
    noise = json.loads((golden / "noise.json").read_text())["files"]["beats.npz"]["clip_4p7s__output"]
    wave = np.load(golden / "audio.npz")["clip_4p7s"][None]
    expected = np.load(golden / "beats.npz")["clip_4p7s__output"][None]
    alone = Beats.from_pretrained(golden / "checkpoints" / "beats_microsoft_format.pt")
    within = Beats.from_pretrained(golden / "model")
    full = Beats.from_pretrained(golden / "checkpoints" / "checkpoint_full.pth", config=golden / "model")
    tokens = np.asarray(alone(wave))
    assert tokens.shape == expected.shape
    assert np.abs(tokens - expected).max() <= 10 * noise["max_abs_diff"]
    np.testing.assert_array_equal(within(wave), tokens)
    np.testing.assert_array_equal(full(wave), tokens)


def test_golden_qformer(golden):
    noise = json.loads((golden / "noise.json").read_text())["files"]["qformer.npz"]
    qformer = QFormer.from_pretrained(golden / "model", qformer_config=golden / "qformer_config.json")
    tokens = np.load(golden / "beats.npz")["clip_4p7s__output"][None]
    theirs = np.load(golden / "qformer.npz")["clip_4p7s__qformer_output"]
    ours = np.asarray(qformer(tokens)).reshape(theirs.shape)
    assert np.abs(ours - theirs).max() <= 10 * noise["clip_4p7s__qformer_output"]["max_abs_diff"]


def test_example_of_the_documents(saved, tmp_path, monkeypatch):
    """The examples in docs/parts.md run as they are."""
    text = (ROOT / "docs" / "parts.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks[0].strip().splitlines()) <= 6
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "owl.wav", rng.uniform(-0.5, 0.5, 44_100).astype(np.float32), 44_100)
    shutil.copytree(saved("beats"), tmp_path / "BEATs_iter3_plus_AS2M.pt")
    shutil.copytree(saved("naturelm"), tmp_path / "NatureLM-audio")
    shutil.copytree(saved("llama-merged"), tmp_path / "Llama-3.2-1B-Instruct")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks:
        exec(block, names)
    assert names["features"].shape == (1, n_tokens(16_000), Beats.from_pretrained(saved("beats")).config.width)
    assert names["vectors"].shape[:2] == (1, n_tokens(16_000) // 17)
    assert names["logits"].shape[0] == 1
