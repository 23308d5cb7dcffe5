"""Names of files that are no UTF-8, as archives from elsewhere have them, and names that no file has."""

import json
import os

import numpy as np
import pytest
import soundfile

from nlm_jax.data.dataset import Corpus
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare


@pytest.fixture
def folder(tmp_path):
    """Two classes, with a recording each whose name is Latin-1, one of them damaged."""
    if os.fsencode("\udce9") != b"\xe9":
        pytest.skip("this file system has no such names")
    rng = np.random.default_rng(0)
    for label in ("owl", "wren"):
        (tmp_path / "in" / label).mkdir(parents=True)
        for name in ("ok", "caf\udce9"):
            soundfile.write(tmp_path / "in" / label / "x.wav", rng.uniform(-0.3, 0.3, 16_000), 16_000)
            (tmp_path / "in" / label / "x.wav").rename(tmp_path / "in" / label / f"{name}.wav")
    (tmp_path / "in" / "wren" / "caf\udce9.wav").write_bytes(b"no sound")
    return tmp_path / "in"


@pytest.mark.parametrize("flags", [(), ("--window=0.5",), ("--hold-out=0.5",), ("--duplicates=drop",)])
def test_names_that_are_no_utf8(nlm, folder, tmp_path, flags):
    for earlier_sentence in ("", "was finished on"):
        status, _, stderr = nlm("prepare", folder, "--out", tmp_path / "out", *flags)
        assert (status, earlier_sentence in stderr) == (0, True), stderr
    corpus = Corpus([tmp_path / "out"])
    names = {name.partition("#")[0] for e in range(len(corpus)) for name in corpus.clip_names(e)}
    assert names == {"owl/ok.wav", "owl/caf\\xe9.wav", "wren/ok.wav"}
    assert {corpus.entry(e).text for e in range(len(corpus))} == {"owl", "wren"}
    (reject,) = map(json.loads, (tmp_path / "out" / "rejects.jsonl").read_text(encoding="utf-8").splitlines())
    assert reject["file"] == "wren/caf\\xe9.wav"
    assert "not readable audio" in reject["reason"]
    status, _, stderr = nlm("data", "describe", tmp_path / "out", "--out", tmp_path / "page")
    assert status == 0, stderr


def test_answers_that_are_no_text_are_rejects(tmp_path):
    """Half of a pair of surrogates, as JSON may hold."""
    soundfile.write(tmp_path / "a.wav", np.full(8000, 0.1), 16_000)
    rows = [{"path": "a.wav", "prompt": "p", "text": text, "task": "k"} for text in ("owl", "\ud83d", "caf\udce9")]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepared = prepare(PrepareOptions(tmp_path / "x.jsonl", tmp_path / "out"))
    assert (prepared["examples"], prepared["rejected"]) == (1, {"clips": 0, "examples": 2})
    rejects = (tmp_path / "out" / "rejects.jsonl").read_text(encoding="utf-8")
    assert rejects.count("bytes that are no text; write the name of the file, folder or label in UTF-8") == 2


@pytest.mark.parametrize("window", [0.0, 1.0])
def test_names_that_no_file_has(tmp_path, window):
    soundfile.write(tmp_path / "a.wav", np.full(8000, 0.1), 16_000)
    names = ["a.wav", "\ud83d.wav", "x" * 300, "x" * 300 + "#t=0,1", "nul\0.wav", "nul\0.wav#t=0,1", "."]
    rows = [{"path": name, "prompt": "p", "text": "t", "task": "k"} for name in names]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepared = prepare(PrepareOptions(tmp_path / "x.jsonl", tmp_path / "out", window=window))
    assert (prepared["examples"], prepared["rejected"]["examples"]) == (1, len(rows) - 1)
