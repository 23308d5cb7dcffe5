"""Rows that no example is made of: each is listed with its file and line, the rest goes on."""

import json

import numpy as np
import pytest
import soundfile

from nlm_jax.core.errors import UserError
from nlm_jax.data.dataset import Corpus
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare
from nlm_jax.prepare.readers import registry
from nlm_jax.prepare.rejects import Report
from nlm_jax.prepare.windowing import PROMPT


def sound(file, seconds=3.0, rate=16_000):
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, np.random.default_rng(0).uniform(-0.3, 0.3, round(seconds * rate)), rate)


def rejected(out):
    return [json.loads(line) for line in (out / "rejects.jsonl").read_text(encoding="utf-8").splitlines()]


def answers(out):
    corpus = Corpus([out])
    return [corpus.entry(e).text for e in range(len(corpus))]


def test_bad_rows_are_listed_with_their_line(tmp_path):
    folder = tmp_path / "field"
    sound(folder / "a.wav")
    rows = ["a.wav,Robin,0,1", "a.wav,Wren,2,1", "a.wav,Wren,-0.01,1", "a.wav,Wren,one,2", "a.wav,Wren,nan,inf",
            "a.wav,Wren,1,", "a.wav,,1,2", ",Wren,1,2", "a.wav,Owl,1,2"]  # fmt: skip
    (folder / "labels.csv").write_text("file,label,start,end\n" + "\n".join(rows) + "\n")
    manifest = prepare(PrepareOptions(folder, tmp_path / "out"))
    assert answers(tmp_path / "out") == ["Robin", "Owl"]
    lines = rejected(tmp_path / "out")
    assert [entry["where"] for entry in lines] == [f"{folder / 'labels.csv'}:{n}" for n in range(3, 10)]
    assert [entry["file"] for entry in lines] == ["a.wav"] * 6 + [""]
    for entry, reason in zip(
        lines,
        ("ends at 1 s, before it starts at 2 s", "starts at -0.01 s, before its recording", "start must be seconds",
         "must both be numbers", "start and end belong together", "label", "file"),
        strict=True,
    ):  # fmt: skip
        assert reason in entry["reason"]
    assert manifest["rejected"] == {"clips": 0, "examples": 7}


def test_nothing_usable_is_an_error_with_the_reasons(tmp_path):
    (tmp_path / "labels.csv").write_text("file,label,start,end\na.wav,Wren,2,1\na.wav,,1,2\n")
    with pytest.raises(UserError, match=r"none of 2 rows can be used; .*labels\.csv:2: ends at 1 s.*labels\.csv:3"):
        prepare(PrepareOptions(tmp_path, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_parts_of_json_rows(tmp_path):
    """Parts that cannot be are rejects wherever a name comes from."""
    row = {"prompt": "p", "text": "t", "task": "k"}
    rows = [{**row, "path": name} for name in ("a.wav#t=3,1", "a.wav#t=0,1", "a.wav#t=0,1e999")]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    report = Report()
    assert [e.paths for e in registry.read(tmp_path / "x.jsonl", report=report)] == [("a.wav#t=0,1",)]
    assert [(r.name, r.where.rpartition(":")[2]) for r in report.rejects] == [
        ("a.wav#t=3,1", "1"), ("a.wav#t=0,1e999", "3")]  # fmt: skip


def test_points_in_time(tmp_path):
    """Without windows a point has no sound; with windows it is in the one that holds it, not in its neighbour."""
    folder = tmp_path / "field"
    sound(folder / "d.wav")
    (folder / "d.txt").write_text("0.2\t0.8\tRobin\n1.0\t1.0\tTick\n-0.01\t0.5\tWren\n")
    prepare(PrepareOptions(folder, tmp_path / "plain"))
    assert answers(tmp_path / "plain") == ["Robin"]
    assert {(e["file"], e["where"].rpartition(":")[2]) for e in rejected(tmp_path / "plain")} == {
        ("d.wav#t=1,1", "2"), ("d.wav", "3")}  # fmt: skip
    (folder / "d.txt").write_text("0.2\t0.8\tRobin\n1.0\t1.0\tTick\n")
    prepare(PrepareOptions(folder, tmp_path / "cut", window=1.0, hop=1.0))
    assert answers(tmp_path / "cut") == ["Robin", "Tick", "None"]
    assert Corpus([tmp_path / "cut"]).entry(1).prompt.endswith(PROMPT)
