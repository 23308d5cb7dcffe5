"""`nlm infer` on bad input: the sentence, status 2, and answers that were there before kept."""

import json

import numpy as np
import pytest
import soundfile


@pytest.fixture
def folder(tmp_path):
    soundfile.write(tmp_path / "good.wav", np.random.default_rng(0).normal(0, 0.1, 16000), 16000)
    return tmp_path


@pytest.fixture
def refuses(nlm, folder):
    """`refuses(sentence, **flags)`: infer refuses with this sentence; the flags replace those of a good call."""

    def check(sentence, **flags):
        good = {"model": folder / "model", "audio": folder / "good.wav", "query": "What?", "out": folder / "out.jsonl"}
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in (good | flags).items()]
        before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        status, printed, err = nlm("infer", *arguments)
        last = err.strip().splitlines()[-1]
        assert (status, printed) == (2, "")
        assert last.startswith("nlm infer: error: ")
        assert sentence in last
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before

    return check


def test_wrong_paths(refuses, folder):
    refuses("model: no such file or directory")
    refuses("nowhere.wav: no such file or folder", audio=folder / "nowhere.wav")


def test_not_a_model(refuses, folder):
    refuses("config.json: no such file", model=folder)


def test_part_of_a_model(refuses, golden):
    refuses("holds only llama; a model needs beats", model=golden / "llama")


def test_model_without_its_language_model(refuses, golden, folder):
    (folder / "model").mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / "model" / name).write_bytes((golden / "model" / name).read_bytes())
    (folder / "model" / "qformer_config.json").write_bytes((golden / "qformer_config.json").read_bytes())
    refuses("--llm")


def test_folder_without_recordings(refuses, folder):
    (folder / "empty").mkdir()
    refuses("no recordings below it; looked for .wav", audio=folder / "empty")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"window": 0.1}, "window=0.1: the model takes 0.5 to 10 seconds"),
        ({"window": 60}, "window=60: the model takes 0.5 to 10 seconds"),
        ({"hop": 0}, "hop=0: must be above 0"),
        ({"hop": "nan"}, "hop=nan: must be above 0"),
        ({"batch_size": 0}, "--batch-size 0: must be at least 1"),
        ({"batch_size": "many"}, "argument --batch-size: invalid int value"),
        ({"dtype": "int8"}, "argument --dtype: invalid choice"),
        ({"audo": "x"}, "did you mean --audio?"),
    ],
)
def test_flags(refuses, folder, flags, sentence):
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text('{"llama_path": "llama"}')
    refuses(sentence, **flags)


def test_output_is_a_folder(refuses, folder):
    refuses("is a folder; give a file such as", out=folder)


def test_output_holds_something_else(refuses, folder):
    (folder / "notes.txt").write_text("my notes\n")
    refuses("notes.txt:1: not a line of nlm infer; give another --out", out=folder / "notes.txt")


@pytest.mark.parametrize("content", [b"", b"no audio at all", b"RIFF"], ids=["empty", "text", "cut"])
def test_recordings_that_cannot_be_read_become_rows(nlm, folder, content):
    (folder / "bad").mkdir()
    (folder / "config.json").write_text('{"llama_path": "llama"}')
    (folder / "bad" / "bad.wav").write_bytes(content)
    out = folder / "out.jsonl"
    status, _, err = nlm("infer", f"--model={folder}", f"--audio={folder / 'bad'}", "--query=What?", f"--out={out}")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["file"] for row in rows] == [str(folder / "bad" / "bad.wav")]
    assert all(row["error"].startswith(row["file"]) for row in rows)
    assert "0 answers, 1 error rows" in " ".join(err.split())
    assert status == 2  # nothing at all was answered
    assert f"no recording could be read; the reasons are in {out}" in err
