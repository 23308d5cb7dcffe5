"""What nlm prepare says of the recordings behind its clips: rates, ultrasound, damage, channels."""

import json

import numpy as np
import pytest
import soundfile

from nlm_jax.data import shards
from nlm_jax.data.dataset import Corpus
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare


def tone(hertz, rate, seconds=1.0):
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


@pytest.fixture
def bats(tmp_path):
    for name, hertz, rate in (("bat", 45_000, 192_000), ("owl", 500, 192_000), ("wren", 4000, 16_000)):
        (tmp_path / "in" / name).mkdir(parents=True)
        soundfile.write(tmp_path / "in" / name / "a.wav", tone(hertz, rate), rate)
    return tmp_path / "in"


@pytest.mark.parametrize("flags", [(), ("--window=0.25",)])
def test_ultrasound_is_reported_once(nlm, bats, tmp_path, flags):
    status, printed, _ = nlm("prepare", bats, "--out", tmp_path / "out", *flags)
    assert status == 0
    assert printed.count("1 recording has most of the energy above 8 kHz") == 1
    assert "(bat/a.wav)" in printed
    audio = json.loads((tmp_path / "out" / "manifest.json").read_text())["audio"]
    windows = 7 if flags else 1
    assert audio["source_rates"] == {"16000": windows, "192000": 2 * windows}
    assert audio["ultrasound"] == {"recordings": 1, "first": ["bat/a.wav"]}
    part = Corpus([tmp_path / "out"]).parts[0]
    headers = [shards.clip_header(part.clip_records.read(*part.address(k)))[0] for k in range(3 * windows)]
    rates = {h["name"].partition("#")[0]: h["source_rate"] for h in headers}
    assert rates == {"bat/a.wav": 192_000, "owl/a.wav": 192_000, "wren/a.wav": 16_000}


def test_a_damaged_recording_is_named(nlm, tmp_path):
    (tmp_path / "in" / "owl").mkdir(parents=True)
    soundfile.write(tmp_path / "in" / "owl" / "a.flac", np.random.default_rng(0).uniform(-0.3, 0.3, 160_000), 16_000)
    whole = (tmp_path / "in" / "owl" / "a.flac").read_bytes()
    (tmp_path / "in" / "owl" / "a.flac").write_bytes(whole[: len(whole) // 2])
    status, printed, _ = nlm("prepare", tmp_path / "in", "--out", tmp_path / "out")
    assert status == 0
    assert "not read whole: 1 recordings (owl/a.flac: " in printed
    seconds = Corpus([tmp_path / "out"]).clip(0, 0).size / 16_000
    assert 4.0 < seconds < 5.1


def test_channels_are_recordings_of_one_file(tmp_path):
    """A channel by its number; both of a file on one side of the division, a missing one is a reject."""
    (tmp_path / "in").mkdir()
    rows = []
    for k in range(4):
        stereo = np.stack([tone(500 + 100 * k, 16_000), 0.5 * tone(2000 + 100 * k, 16_000)], axis=1)
        soundfile.write(tmp_path / "in" / f"{k}.wav", stereo, 16_000)
        rows += [{"path": f"{k}.wav#channel={c}", "label": f"c{c}", "text": f"c{c}"} for c in (1, 2)]
    rows += [{"path": "0.wav#channel=3", "label": "c3", "text": "c3"}]
    rows += [{"path": "0.wav#channel=2#t=0.25,0.75", "label": "c2", "text": "part"}]
    lines = "".join(json.dumps({"prompt": "p", "task": "k", **row}) + "\n" for row in rows)
    (tmp_path / "in" / "x.jsonl").write_text(lines)
    prepared = prepare(PrepareOptions(tmp_path / "in" / "x.jsonl", tmp_path / "out", hold_out=0.5))
    assert prepared["rejected"] == {"clips": 1, "examples": 1}
    assert "channel" in (tmp_path / "out" / "rejects.jsonl").read_text()
    corpus = Corpus([tmp_path / "out"])
    level = {"c1": 0.3, "c2": 0.15, "part": 0.15}
    files = {}
    names, codes = corpus.codes("split")
    for e in range(len(corpus)):
        assert np.abs(corpus.clip(e, 0)).max() == pytest.approx(level[corpus.entry(e).text], abs=1e-3)
        files.setdefault(corpus.clip_names(e)[0][0], set()).add(names[codes[e]])
    assert sorted(map(len, files.values())) == [1, 1, 1, 1]
    assert set.union(*files.values()) == {"train", "valid"}
