"""Answers as labels: adjacent identical ones merged, and files that `nlm prepare`, Raven and Audacity read."""

import csv
import json

import numpy as np
import soundfile

from nlm_jax.generate.answer_file import AnswerFile
from nlm_jax.generate.window_labels import Label, merged, write
from nlm_jax.prepare.readers import registry


def row(file, start, prediction, query="What?", window=10.0):
    return {"file": file, "start": start, "end": start + window, "query": query, "prediction": prediction}


def labels_of(folder, rows):
    """The labels of every recording, from an answer file with `rows` in this order."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = AnswerFile(folder / "rows.jsonl", "What?")
    return [label for recording in answers.recordings() for label in merged(answers.rows(recording))]


def test_identical_adjacent_answers_are_one_label(tmp_path):
    rows = [row("a.wav", 20.0, "Owl"), row("b.wav", 50.0, "Owl"), row("a.wav", 0.0, "Owl "), row("a.wav", 10.0, "Owl"),
            row("a.wav", 40.0, "Owl"), {"file": "c.wav", "error": "damaged"}]  # fmt: skip
    assert labels_of(tmp_path, rows) == [
        Label("a.wav", 0.0, 30.0, "Owl"),
        Label("a.wav", 40.0, 50.0, "Owl"),
        Label("b.wav", 50.0, 60.0, "Owl"),
    ]


def test_overlapping_windows(tmp_path):
    rows = [
        row("ä.wav", 0.0, "Owl"),
        row("ä.wav", 5.0, "Fox"),
        row("ä.wav", 10.0, "Fox"),
        row("ä.wav", 0.0, "x", "Who?"),
    ]
    assert labels_of(tmp_path, rows) == [Label("ä.wav", 0.0, 10.0, "Owl"), Label("ä.wav", 5.0, 20.0, "Fox")]


def test_files_are_read_back(tmp_path):
    """`nlm prepare` reads the labels that were written for Raven and Audacity; "None" is in the CSV table only."""
    soundfile.write(tmp_path / "dawn.wav", np.zeros(8_000 * 28), 8_000)
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
    expected = [("dawn.wav#t=0,10", "Owl"), ("dawn.wav#t=20,28", 'Fox, "red"')]
    labels = [(e.paths[0], e.label) for e in registry.read(raven)]
    assert labels == [(f"{tmp_path.as_posix()}/{part}", label) for part, label in expected]  # from Begin Path
    (tmp_path / "dawn.txt").write_text(audacity.read_text())
    assert [(e.paths[0], e.label) for e in registry.read(tmp_path / "dawn.txt")] == expected


def test_folders_are_mirrored_and_names_differ(tmp_path):
    """AudioMoths use the same names in every site's folder; a name with a number may be another recording's name."""
    answers = tmp_path / "answers.jsonl"
    names = ("in/a/x.wav", "in/a/x_2.wav", "in/b/x.wav", "in/b/x.flac", "in/b/X.wav", "in/b/x.wav_2", "in/b/x.wav.mp3")
    answers.write_text("\n".join(json.dumps(row(str(tmp_path / name), 0.0, name)) for name in names))
    paths = write(answers, "What?", ("raven", "audacity"))
    assert len({str(file).lower() for file in paths}) == len(paths) == 2 * len(names)
    for file in paths:  # each has the answer of its own recording
        assert sum(name in file.read_text() for name in names) >= 1
    below = {str(file.relative_to(tmp_path / "answers")) for file in paths}
    assert {"a/x.txt", "a/x_2.txt", "a/x.Table.1.selections.txt", "b/x.wav.txt", "b/x.flac.txt"} <= below
    texts = sorted(file.read_text().split("\t")[2].strip() for file in paths if "selections" not in file.name)
    assert texts == sorted(names)


def test_raven_has_the_path_of_the_recording(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "answers.jsonl").write_text(json.dumps(row("in/x.wav", 0.0, "Owl")) + "\n")
    head, line = write(tmp_path / "answers.jsonl", "What?", ("raven",))[0].read_text().splitlines()
    cells = dict(zip(head.split("\t"), line.split("\t"), strict=True))
    assert (cells["Begin File"], cells["Begin Path"]) == ("x.wav", str(tmp_path / "in" / "x.wav"))


def test_control_characters_do_not_break_tables(tmp_path):
    name = str(tmp_path / "a\tb\nc.wav")
    (tmp_path / "answers.jsonl").write_text(json.dumps(row(name, 0.0, "Owl\t1\n2\u2028\x00end")) + "\n")
    table, raven, audacity = write(tmp_path / "answers.jsonl", "What?", ("csv", "raven", "audacity"))
    head, line = raven.read_text().splitlines()
    assert len(head.split("\t")) == len(line.split("\t"))
    assert line.endswith("Owl 1 2 end")
    assert audacity.read_text() == "0.000000\t10.000000\tOwl 1 2 end\n"
    with table.open(newline="") as text:
        assert list(csv.reader(text))[1] == [name, "0.0", "10.0", "Owl 1 2 end"]


def test_labels_end_with_the_recording(tmp_path):
    """Rows of earlier versions have the end of the window, and a window may start after the end of the recording."""
    soundfile.write(tmp_path / "a.wav", np.zeros(40_000), 8_000)
    rows = [row(str(tmp_path / "a.wav"), start, "Owl", window=3.0) for start in (0.0, 3.0, 6.0)]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for file in write(tmp_path / "answers.jsonl", "What?", ("csv", "raven", "audacity")):
        assert "5.0" in file.read_text()
        assert "6.0" not in file.read_text().replace("16.0", "")


def test_one_recording_under_two_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [row("a.wav", 0.0, "Owl"), row(str(tmp_path / "a.wav"), 10.0, "Owl")]
    assert labels_of(tmp_path, rows) == [Label("a.wav", 0.0, 20.0, "Owl")]
