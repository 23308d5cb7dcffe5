"""Answers as labels: neighbours merged, and files that our own readers, Raven and Audacity open."""

import json

import numpy as np
import soundfile

from nlm_jax.data import corpora
from nlm_jax.generate.answered import Rows
from nlm_jax.generate.labels import Label, merged, write


def row(file, start, prediction, query="What?", window=10.0):
    return {"file": file, "start": start, "end": start + window, "query": query, "prediction": prediction}


def labelled(folder, rows):
    """The labels of every recording in rows that lie in a file in any order."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = Rows(folder / "rows.jsonl", "What?")
    return [label for file in found.files() for label in merged(found.of(file))]


def test_equal_neighbours_are_one_label(tmp_path):
    rows = [row("a.wav", 20.0, "Owl"), row("b.wav", 50.0, "Owl"), row("a.wav", 0.0, "Owl "), row("a.wav", 10.0, "Owl"),
            row("a.wav", 40.0, "Owl"), {"file": "c.wav", "error": "damaged"}]  # fmt: skip
    assert labelled(tmp_path, rows) == [
        Label("a.wav", 0.0, 30.0, "Owl"),
        Label("a.wav", 40.0, 50.0, "Owl"),
        Label("b.wav", 50.0, 60.0, "Owl"),
    ]


def test_windows_that_overlap(tmp_path):
    rows = [
        row("ä.wav", 0.0, "Owl"),
        row("ä.wav", 5.0, "Fox"),
        row("ä.wav", 10.0, "Fox"),
        row("ä.wav", 0.0, "x", "Who?"),
    ]
    assert labelled(tmp_path, rows) == [Label("ä.wav", 0.0, 10.0, "Owl"), Label("ä.wav", 5.0, 20.0, "Fox")]


def test_files_are_read_back(tmp_path):
    """What is written for Raven and Audacity is what `nlm prepare` reads; "None" is in the table only."""
    soundfile.write(tmp_path / "dawn.wav", np.zeros(16_000, np.float32), 16_000)
    name = str(tmp_path / "dawn.wav")
    rows = [
        row(name, 0.0, "Owl"),
        row(name, 10.0, "None"),
        row(name, 20.0, 'Fox, "red"'),
        row(name, 0.0, "Yes", "Is it?"),
    ]
    answers = tmp_path / "answers.jsonl"
    answers.write_text("\n".join(map(json.dumps, rows)))
    table, raven, audacity = write(answers, "What?", ("csv", "raven", "audacity"))
    assert table.read_text().splitlines()[0] == "file,start,end,text"
    assert len(table.read_text().splitlines()) == 4
    expected = [("dawn.wav#t=0,10", "Owl"), ("dawn.wav#t=20,30", 'Fox, "red"')]
    assert [(e.paths[0], e.label) for e in corpora.read(raven)] == expected
    (tmp_path / "dawn.txt").write_text(audacity.read_text())
    assert [(e.paths[0], e.label) for e in corpora.read(tmp_path / "dawn.txt")] == expected


def test_two_recordings_of_one_name(tmp_path):
    answers = tmp_path / "answers.jsonl"
    answers.write_text("\n".join(json.dumps(row(f"{d}/x.wav", 0.0, "Owl")) for d in "ab"))
    assert [f.name for f in write(answers, "What?", ("audacity",))] == ["x.txt", "x_2.txt"]
