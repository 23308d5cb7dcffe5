"""Clips have the length and the resampling filter of the checkpoint, in generation, commands, evaluation and server."""

import base64
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
import tiny_training as tiny

from nlm_jax import testing
from nlm_jax.audio import wave
from nlm_jax.audio.config import AudioConfig
from nlm_jax.convert.checkpoint import Checkpoint
from nlm_jax.convert.formats import audio_config, save
from nlm_jax.data.text import embedded_directory
from nlm_jax.evaluate.beans_zero import dataset
from nlm_jax.evaluate.corpus import questions
from nlm_jax.generate.api import NatureLM
from nlm_jax.generate.audio_inputs import clips_of
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare

AUDIO = AudioConfig(1.0, "kaiser_best")
RATE = 22_050
QUERY = "Which species is this?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint whose clips are one second long, on disk."""
    out = tmp_path_factory.mktemp("model") / "short"
    tokenizer, cfg = testing.tokenizer(), testing.tiny_config()
    leaves = {path: np.array(leaf) for path, leaf in tiny.params(cfg).items()}
    leaves["llama/lm_head/kernel"][:, tokenizer.eos_ids] *= 2.5
    cfg = dataclasses.replace(cfg, audio=AUDIO)
    save(Checkpoint(cfg, jax.tree.map(jnp.asarray, leaves), tokenizer=embedded_directory()), out, "nlm")
    return out


@pytest.fixture(scope="module")
def model(folder):
    return NatureLM.from_pretrained(folder, dtype="float32")


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """2.5 s of noise at 22.05 kHz, and its windows as arrays at 16 kHz, the last one zero-padded."""
    file = tmp_path_factory.mktemp("sound") / "noise.wav"
    noise = np.random.default_rng(5).uniform(-0.5, 0.5, round(2.5 * RATE))
    soundfile.write(file, noise, RATE, subtype="FLOAT")
    whole = wave.fit(wave.prepare(soundfile.read(file, dtype="float32")[0], RATE, quality="kaiser_best"), 48_000)
    return file, list(whole.reshape(3, 16_000))


def test_a_file_is_its_first_clip(model, recording):
    file, windows = recording
    assert model.config.audio == AUDIO
    (clip,) = clips_of(file, model.config.audio)
    np.testing.assert_allclose(clip.wave, windows[0], atol=1e-6)
    assert clip.length == 16_000
    options = {"max_new_tokens": 8}
    (from_file, from_array) = model.generate([file, windows[0]], [QUERY] * 2, **options)
    assert from_file == from_array
    assert "".join(model.stream(file, QUERY, **options)) == from_array
    scored = model.score([file, windows[0]], [QUERY] * 2, ["owl", "wren"])
    np.testing.assert_allclose(scored[0], scored[1], atol=1e-4)


def test_windows_by_default(model, recording, folder, nlm, tmp_path):
    file, windows = recording
    expected = model.generate(windows, [QUERY] * 3, max_new_tokens=8)
    generated = model.generate_windows(file, QUERY, max_new_tokens=8)
    assert [(start, text) for start, _, text in generated] == list(zip((0.0, 1.0, 2.0), expected, strict=True))
    flags = (f"--model={folder}", f"--audio={file}", "--dtype=float32")
    answers = tmp_path / "answers.jsonl"
    status, _, err = nlm("infer", *flags, f"--query={QUERY}", f"--out={answers}", "--max-new-tokens=8")
    assert status == 0, err
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [(row["start"], row["prediction"]) for row in rows] == list(zip((0.0, 1.0, 2.0), expected, strict=True))
    assert nlm("embed", *flags, "--level=llm", f"--out={tmp_path / 'vectors.npz'}")[0] == 0
    vectors = np.load(tmp_path / "vectors.npz")["embedding"]
    np.testing.assert_allclose(vectors[:2], np.asarray(model.encode_audio(windows[:2])).mean(1), atol=1e-4)
    status, _, err = nlm("infer", *flags, f"--query={QUERY}", f"--out={answers}", "--window=2")
    assert status == 2
    assert "window=2: the model takes 0.5 to 1 seconds at a time" in err


def test_evaluation_uses_clips_of_that_length(model, folder, recording, tmp_path):
    file, windows = recording
    stored = {"bytes": file.read_bytes(), "path": None}
    for part, seconds in (("esc50", 1.0), ("cbi", 1.0)):
        item = dataset.BenchmarkItem("a", part, QUERY, "x", stored, 0, model.config.audio)
        assert item.waveform().shape == (round(seconds * 16_000),)
        np.testing.assert_allclose(item.waveform(), windows[0], atol=1e-6)
    files = testing.write_corpus(tmp_path / "c", clips=4, seconds=1.4)
    prepare(PrepareOptions(files["valid"], tmp_path / "p"))
    held_out_questions = list(questions.questions([str(tmp_path / "p")], "valid", audio_config(folder).samples))
    assert {clip.shape for question in held_out_questions for clip in question.waveform()} == {(16_000,)}


@pytest.mark.parametrize(("part", "seconds"), [("esc50", 5.0), ("watkins", 3.0), ("cbi", 10.0)])
def test_the_server_has_the_clips_of_evaluation(recording, part, seconds):
    """BEANS-Next sends `max_length_seconds` for the parts that the official evaluation pads to less than 10 s."""
    pytest.importorskip("pydantic", reason="the server needs the extra [serve]")
    from nlm_jax.serve import contract

    file, _ = recording
    clip_lengths = {
        "sample_id": "a",
        "messages": [{"role": "user", "content": QUERY}],
        "audio_inputs": [{"payload_type": "base64_wav", "data": base64.b64encode(file.read_bytes()).decode()}],
    }
    official = AudioConfig(10.0, "kaiser_best")
    item = dataset.BenchmarkItem("a", part, QUERY, "x", {"bytes": file.read_bytes()}, 0, official)
    config = {"generation_config": {"max_length_seconds": seconds}}
    (clip,) = contract.question(clip_lengths | config, None, 10, 1, official).clips
    assert clip.shape == (round(seconds * 16_000),)
    np.testing.assert_array_equal(clip, item.waveform())
    (clip,) = contract.question(clip_lengths | config, None, 10, 1, AUDIO).clips  # never longer than the checkpoint's
    np.testing.assert_array_equal(clip, dataclasses.replace(item, clips=AUDIO).waveform())
    (clip,) = contract.question(clip_lengths, None, 10, 1, AUDIO).clips
    assert clip.shape == (16_000,)
