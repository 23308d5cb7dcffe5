"""`nlm check`: figures of every stage, and the signs of failure that it names."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile

from nlm_jax import NatureLM
from nlm_jax.audio.config import AudioConfig
from nlm_jax.core.errors import UserError
from nlm_jax.generate.check_command import examine, likeness, readable, repeated, show, signs, statistics


def found(**changes):
    """Figures of a model that works."""
    stage = {"shape": [1], "finite": True, "mean": 0.0, "deviation": 1.0, "least": -1.0, "largest": 1.0}
    vectors = {"norm": 2.0, "embedding_norm": 1.0, "cosine_windows": 0.5, "cosine_clips": 0.5, "nearest": []}
    first = {"entropy": 0.2, "likeliest": [("Owl", 0.9)]}
    answers = {"a": "Owl", "b": "Fox"}
    made = {"stages": {"BEATs": stage}, "vectors": vectors, "first_token": first, "answers": answers}
    for path, value in changes.items():
        part, _, name = path.partition("__")
        made[part] = value if not name else made[part] | {name: value}
    return made


def test_a_model_that_works():
    assert signs(found()) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stages__BEATs": {"finite": False}}, "BEATs holds infinity or NaN"),
        ({"vectors__norm": 0.001}, "random outputs are likely: the vectors are 0.001 times"),
        ({"vectors__norm": 900.0}, "random outputs are likely"),
        ({"first_token__entropy": 0.97}, "random outputs: the first token of the answer is as good as drawn by lot"),
        ({"first_token__entropy": float("nan")}, "random outputs: the first token"),
        ({"vectors__cosine_windows": 0.99999}, "mode collapse: all windows"),
        ({"vectors__cosine_clips": 0.99999}, "mode collapse: different recordings"),
        ({"answers": {"a": "Owl", "b": "Owl"}}, "constant answers: 'Owl'"),
        ({"answers": {"a": " ", "b": ""}}, "empty answers"),
        ({"answers": {"a": None, "b": "Owl"}}, "1 of 2 answers are NaN or infinite"),
        ({"answers": {"a": None}}, "1 of 1 answers are NaN or infinite"),
        ({"answers": dict(zip("abcdef", ["Owl", "Fox"] * 3, strict=True))}, "mode collapse: 2 kinds of answers to 6"),
        ({"answers": {"a": "Owl", "b": "so on and on and on and on and on"}}, "round in circles: 'on and'"),
    ],
)
def test_signs(changes, says):
    assert any(says in sign for sign in signs(found(**changes)))


@pytest.fixture(scope="module")
def failing(shared):
    """`failing(path=change, ...)`: what is found of the golden model with some of its weights changed."""
    golden = shared / "golden"
    model = NatureLM.from_pretrained(golden / "model", dtype="float32", qformer_config=golden / "qformer_config.json")
    time = np.arange(16_000) / 16_000
    tone, chirp = np.sin(2 * np.pi * 440 * time), np.sin(2 * np.pi * (500 + 3_000 * time) * time)
    noise = np.random.default_rng(0).normal(0, 0.3, 16_000)
    waves = {name: (0.3 * wave).astype(np.float32) for name, wave in zip("abc", (tone, chirp, noise), strict=True)}

    def build(**changes):
        leaves = dict(model.checkpoint.leaves)
        for path, change in changes.items():
            leaves[path.replace("__", "/")] = change(leaves[path.replace("__", "/")])
        changed = NatureLM(dataclasses.replace(model.checkpoint, leaves=leaves), model.tokenizer)
        return examine(changed, waves, "What is it?", 3)

    return build


def test_a_model_that_overflows(failing, capsys):
    """What has no answer is a sign among the others, and its figures are shown."""
    found = failing(llama__lm_head__kernel=lambda x: 1e38 * x)
    assert set(found["answers"].values()) == {None}
    assert any(sign.startswith("3 of 3 answers are NaN or infinite") for sign in found["signs"])
    assert not any("empty" in sign or "collapse" in sign for sign in found["signs"])
    show(found, "What?")
    assert "a: no answer" in capsys.readouterr().out


def test_a_model_that_knows_nothing(failing):
    """Weights of the output that tell no token from another."""
    found = failing(llama__lm_head__kernel=lambda x: 1e-4 * x)
    assert found["first_token"]["entropy"] > 0.999
    assert any(sign.startswith("random outputs: the first token") for sign in found["signs"])
    surer = failing(llama__lm_head__kernel=lambda x: 3 * x)
    assert surer["first_token"]["entropy"] < 0.3
    assert not any(sign.startswith("random outputs") for sign in surer["signs"])


def test_a_model_whose_vectors_are_all_one(failing):
    """A projection that passes nothing on: the same vector and the same answer whatever is heard."""
    found = failing(audio_proj__kernel=lambda x: 1e-6 * x, llama__lm_head__kernel=lambda x: 3 * x)
    assert [sign.partition(":")[0] for sign in found["signs"]] == ["mode collapse", "mode collapse", "constant answers"]


def test_a_model_whose_encoder_hears_nothing(failing):
    found = failing(ln_audio__scale=lambda x: 1e-6 * x)
    assert "mode collapse: different recordings give the same vectors" in " ".join(found["signs"])


def test_a_model_of_another_language_model(failing):
    found = failing(audio_proj__kernel=lambda x: 1e3 * x)
    assert any(sign.startswith("random outputs are likely: the vectors are") for sign in found["signs"])


def test_a_model_that_says_one_thing(failing):
    """It hears well, but nothing of it reaches the output: one token always wins."""
    found = failing(llama__norm__scale=lambda x: 1e-9 * x)
    assert any(sign.startswith("constant answers") for sign in found["signs"])
    assert not any("vectors" in sign and "mode collapse" in sign for sign in found["signs"])


def test_phrases_again_and_again():
    assert repeated("la la la la") == "la"
    assert repeated("an owl, an owl, an owl, an owl,") == "an owl,"
    assert repeated("Owl, Owl, Owl") == ""


def test_figures():
    made = statistics(np.array([[1.0, 3.0]], np.float32))
    assert made == {"shape": [1, 2], "finite": True, "mean": 2.0, "deviation": 1.0, "least": 1.0, "largest": 3.0}
    assert likeness(np.array([[1.0, 0.0], [0.0, 1.0]])) == 0.0
    np.testing.assert_allclose(likeness(np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])), 1.0)


def test_the_command(nlm, golden, tmp_path):
    file, out = tmp_path / "owl.wav", tmp_path / "check.json"
    soundfile.write(file, 0.1 * np.random.default_rng(0).normal(size=32_000), 16_000)
    flags = (f"--model={golden / 'model'}", f"--qformer-config={golden / 'qformer_config.json'}", "--max-new-tokens=3")
    status, printed, err = nlm("check", *flags, f"--audio={file}", f"--json={out}")
    assert status == 0, err
    made = json.loads(out.read_text())
    assert list(made["stages"]) == ["waveform", "filter bank", "BEATs", "Q-Former", "projected vectors"]
    assert made["stages"]["filter bank"]["shape"] == [1, 998, 128]
    assert len(made["answers"]) == 3  # with silence and noise beside it
    assert "projected vectors" in printed
    assert made["first_token"].keys() == {"entropy", "likeliest"}
    assert "first token: " in " ".join(printed.split())
    assert nlm("check", *flags, f"--audio={tmp_path / 'none.wav'}")[0] == 2


def test_a_recording_that_cannot_be_read_is_left_out(tmp_path, capsys):
    soundfile.write(tmp_path / "good.wav", np.ones(1_600) / 9, 16_000)
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    files = [tmp_path / "bad.wav", tmp_path / "good.wav"]
    assert list(readable(files, AudioConfig())) == [str(tmp_path / "good.wav")]
    assert "left out: " in capsys.readouterr().err
    with pytest.raises(UserError, match="bad"):
        readable(files[:1], AudioConfig())
