"""`nlm demo` on bad input: the sentence, status 2, and every file as it was before."""

import json

import pytest


@pytest.fixture
def refuses(nlm, tmp_path):
    """`refuses(sentence, *arguments)`: demo refuses with this sentence and touches no file that was there."""

    def check(sentence, *arguments, out=tmp_path / "out"):
        before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
        status, printed, err = nlm("demo", f"--out={out}", *arguments)
        last = err.strip().splitlines()[-1]
        assert (status, printed) == (2, "")
        assert last.startswith("nlm demo: error: ")
        assert sentence in last
        assert {p: p.read_bytes() for p in before} == before

    return check


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--corpus=nowhere"], "--corpus=nowhere: has no manifest.jsonl"),
        (["--config=nowhere.py"], "--config=nowhere.py: no such file"),
        (["--config.sed=1"], "--config.sed: no such field; did you mean 'seed'?"),
        (["--config.stages.0.steps=0"], "config.stages[0].steps: must be at least 1, got 0"),
        (["--config.stages.7.steps=1"], "--config.stages.7.steps: '7' is not an index of a list of 2"),
        (["--seed=-1"], "--seed -1: must not be negative"),
        (["--seed=x"], "argument --seed: invalid int value"),
        (["--corpsu=x"], "did you mean --corpus?"),
    ],
    ids=lambda x: x[0] if isinstance(x, list) else "",
)
def test_arguments(refuses, arguments, sentence):
    refuses(sentence, *arguments)


def test_output_holds_something_else(refuses, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("the only copy")
    refuses("--out=")


def test_output_is_a_file(refuses, tmp_path):
    (tmp_path / "out").write_text("x")
    refuses("--out=")


@pytest.mark.parametrize("rows", [[], [{"id": "a"}]], ids=["empty", "missing field"])
def test_manifests(refuses, tmp_path, rows):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    refuses("manifest.jsonl", f"--corpus={tmp_path / 'corpus'}")
