"""`nlm check`: its report as text and JSON, and recordings that cannot be read."""

import json

import numpy as np
import pytest
import soundfile

from nlm_jax.audio.config import AudioConfig
from nlm_jax.core.errors import UserError
from nlm_jax.generate.check_command import readable


def test_the_command(nlm, golden, tmp_path):
    file, out = tmp_path / "owl.wav", tmp_path / "check.json"
    soundfile.write(file, 0.1 * np.random.default_rng(0).normal(size=32_000), 16_000)
    flags = (f"--model={golden / 'model'}", f"--qformer-config={golden / 'qformer_config.json'}", "--max-new-tokens=3")
    status, printed, err = nlm("check", *flags, f"--audio={file}", f"--json={out}")
    assert status == 0, err
    report = json.loads(out.read_text())
    assert list(report["stages"]) == ["waveform", "filter bank", "BEATs", "Q-Former", "projected vectors"]
    assert report["stages"]["filter bank"]["shape"] == [1, 998, 128]
    assert list(report["answers"]) == [str(file), "(silence)", "(noise)"]
    assert "projected vectors" in printed
    assert report["first_token"].keys() == {"entropy", "likeliest"}
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
