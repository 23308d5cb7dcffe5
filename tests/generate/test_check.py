"""`nlm check`: figures of every stage, and the signs of failure that it names."""

import json

import numpy as np
import pytest
import soundfile

from nlm_jax.generate.check import likeness, signs, statistics


def found(**changes):
    """Figures of a model that works."""
    stage = {"shape": [1], "finite": True, "mean": 0.0, "deviation": 1.0, "least": -1.0, "largest": 1.0}
    vectors = {"norm": 2.0, "embedding_norm": 1.0, "cosine_windows": 0.5, "cosine_clips": 0.5, "nearest": []}
    made = {"stages": {"BEATs": stage}, "vectors": vectors, "answers": {"a": "Owl", "b": "Fox"}}
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
        ({"vectors__cosine_windows": 0.99999}, "mode collapse: all windows"),
        ({"vectors__cosine_clips": 0.99999}, "mode collapse: different recordings"),
        ({"answers": {"a": "Owl", "b": "Owl"}}, "constant answers: 'Owl'"),
        ({"answers": {"a": " ", "b": ""}}, "empty answers"),
    ],
)
def test_signs(changes, says):
    assert any(says in sign for sign in signs(found(**changes)))


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
    assert nlm("check", *flags, f"--audio={tmp_path / 'none.wav'}")[0] == 2
