"""Folders, Raven's tables and Audacity's labels become questions about recordings or parts of them."""

import json

import numpy as np
import pytest
import soundfile

from nlm_jax.core.errors import UserError
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.schema import part_of
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare
from nlm_jax.prepare.readers import registry


def sound(file, seconds=2.0, rate=16_000):
    """A ramp: every sample says when it was."""
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, np.linspace(0, 0.9, round(seconds * rate), dtype=np.float32), rate, subtype="FLOAT")


def prepared(annotations, out):
    """The corpus made of `annotations`, and the waveforms of its examples."""
    manifest = prepare(PrepareOptions(annotations, out))
    corpus = Corpus((out,))
    return manifest, [corpus.clip(e, 0) for e in range(len(corpus))]


def test_labels_csv(tmp_path):
    folder = tmp_path / "field"
    sound(folder / "a.wav")
    sound(folder / "deep" / "b.wav")
    table = 'file,Label,start,end,task\na.wav,Robin,0.5,1.5,\ndeep/b.wav,"Wren, winter",,,call-type\n'
    (folder / "labels.csv").write_text(table, encoding="utf-8")
    one, two = registry.read(folder)
    assert one.paths == ("a.wav#t=0.5,1.5",)
    assert (one.text, one.task, one.label) == ("Robin", "common-name", "Robin")
    assert (two.text, two.task, two.paths) == ("Wren, winter", "call-type", ("deep/b.wav",))
    manifest, waves = prepared(folder, tmp_path / "out")
    assert manifest["clips"] == 2
    assert [w.size for w in waves] == [16_000, 32_000]
    np.testing.assert_allclose(waves[0][[0, -1]], [0.225, 0.675], atol=1e-3)  # the part, not the start of the file


def test_two_labels_of_one_recording(tmp_path):
    (tmp_path / "labels.csv").write_text("file,label\na.wav,Wren\na.wav,Robin\n")
    assert [e.label for e in registry.read(tmp_path)] == ["Wren", "Robin"]
    (tmp_path / "labels.csv").write_text("id,file,label\n1,a.wav,Wren\n1,a.wav,Wren\n2,a.wav,Robin\n")
    assert [e.label for e in registry.read(tmp_path)] == ["Wren", "Robin"]
    (tmp_path / "labels.csv").write_text("id,file,label\n1,a.wav,Wren\n1,a.wav,Robin\n")
    with pytest.raises(UserError, match=r"labels\.csv:3: id '1' is that of .*labels\.csv:2 as well"):
        list(registry.read(tmp_path))


def test_a_folder_for_each_class(tmp_path):
    folder = tmp_path / "field"
    for name in ("Tawny_Owl/1.wav", "Tawny_Owl/2/x.wav", "Robin/1.wav"):
        sound(folder / name, 0.5)
    (folder / "Robin" / "notes.txt").write_text("not audio")
    examples = list(registry.read(folder))
    assert [(e.paths[0], e.label) for e in examples] == [
        ("Robin/1.wav", "Robin"), ("Tawny_Owl/1.wav", "Tawny Owl"), ("Tawny_Owl/2/x.wav", "Tawny Owl")]  # fmt: skip
    assert prepared(folder, tmp_path / "out")[0]["examples"] == 3


RAVEN = """Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies
1\tWaveform 1\t1\t0.25\t0.75\t0\t8000\tRobin
1\tSpectrogram 1\t1\t0.25\t0.75\t1000\t8000\tRobin
2\tSpectrogram 1\t1\t1\t1.5\t1000\t8000\tWren
"""


def test_raven(tmp_path):
    sound(tmp_path / "dawn.wav")
    file = tmp_path / "dawn.Table.1.selections.txt"
    file.write_text(RAVEN)
    assert [(e.paths[0], e.label) for e in registry.read(file)] == [
        ("dawn.wav#t=0.25,0.75", "Robin"), ("dawn.wav#t=1,1.5", "Wren")]  # fmt: skip
    _, waves = prepared(file, tmp_path / "out")
    np.testing.assert_allclose(waves[1][0], 0.45, atol=1e-3)


def test_raven_over_several_files(tmp_path):
    """Times count through all files; the offset is within the file that is named."""
    header = "Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tCommon Name\n"
    (tmp_path / "all.txt").write_text(header + "1\t61.5\t62\tC:\\field\\two.wav\t1.5\tOwl\n")
    (examples,) = registry.read(tmp_path / "all.txt")
    assert examples.paths == ("two.wav#t=1.5,2",)


def test_audacity(tmp_path):
    sound(tmp_path / "night.flac".replace("flac", "wav"))
    lines = "0.100000\t0.600000\tOwl\n\\\t200.0\t900.0\n1.000000\t1.500000\t\n1.5\t2\tFox\n"
    (tmp_path / "night.txt").write_text(lines)
    assert [(e.paths[0], e.label) for e in registry.read(tmp_path / "night.txt")] == [
        ("night.wav#t=0.1,0.6", "Owl"), ("night.wav#t=1.5,2", "Fox")]  # fmt: skip


def test_folders_of_tables_and_of_labels(tmp_path):
    """Many recordings, each with its table or its label track next to it; the audio root may be above them."""
    for name in ("one", "two"):
        sound(tmp_path / "raven" / name / f"{name}.wav")
        (tmp_path / "raven" / name / f"{name}.Table.1.selections.txt").write_text(RAVEN)
        sound(tmp_path / "audacity" / f"{name}.wav")
        (tmp_path / "audacity" / f"{name}.txt").write_text("\ufeff0.1\t0.6\tOwl\n", encoding="utf-8")
    names = ["one/one.wav#t=0.25,0.75", "one/one.wav#t=1,1.5", "two/two.wav#t=0.25,0.75", "two/two.wav#t=1,1.5"]
    assert [e.paths[0] for e in registry.read(tmp_path / "raven")] == names
    examples = registry.read(tmp_path / "raven" / "one", root=tmp_path)
    assert [e.paths[0] for e in examples] == [f"raven/{name}" for name in names[:2]]
    assert [e.paths[0] for e in registry.read(tmp_path / "audacity")] == ["one.wav#t=0.1,0.6", "two.wav#t=0.1,0.6"]
    for kind, count in (("raven", 4), ("audacity", 2)):
        assert prepared(tmp_path / kind, tmp_path / f"out-{kind}")[0]["clips"] == count


def test_a_part_beyond_the_end_is_left_out_by_name(tmp_path):
    folder = tmp_path / "field"
    sound(folder / "a.wav")
    (folder / "labels.csv").write_text("file,label,start,end\na.wav,Robin,0,1\na.wav,Wren,5,6\nb.wav,Owl,,\n")
    manifest, _ = prepared(folder, tmp_path / "out")
    assert manifest["examples"] == 1
    rejects = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    assert [r["file"] for r in rejects] == ["a.wav#t=5,6", "b.wav"]


def test_a_changed_table_is_another_corpus(tmp_path):
    folder = tmp_path / "field"
    sound(folder / "a.wav")
    (folder / "labels.csv").write_text("file,label\na.wav,Robin\n")
    prepare(PrepareOptions(folder, tmp_path / "out"))
    (folder / "labels.csv").write_text("file,label\na.wav,Raven\n")
    with pytest.raises(UserError, match="holds a corpus made with other annotations"):
        prepare(PrepareOptions(folder, tmp_path / "out"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.csv", "file,label\na.wav\n", "missing field 'label'"),
        ("labels.csv", "file,label,start,end\na.wav,Owl,1,\n", "labels.csv:2: start and end belong together"),
        ("labels.csv", "file,label,start,end\na.wav,Owl,one,2\n", "start must be seconds, is 'one'"),
        ("labels.csv", "file,label\na.wav,Owl,2,3\n", "more cells than the header"),
        ("labels.csv", "", "has no header line"),
        ("x.txt", RAVEN.replace("Species", "Remarks"), "no label; name its column one of species"),
        ("x.txt", RAVEN, "no recording x with .wav"),
        ("y.txt", "0\t1\tOwl\n", "no recording y with .wav"),
    ],
)
def test_mistakes(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        list(registry.read(tmp_path if name == "labels.csv" else tmp_path / name))


def test_an_empty_folder_and_an_unknown_kind(tmp_path):
    with pytest.raises(UserError, match=r"neither labels\.csv nor sub-folders with recordings"):
        list(registry.read(tmp_path))
    with pytest.raises(UserError, match="--format=csv: unknown; choose one of auto, manifest, official, folder"):
        list(registry.read(tmp_path, "csv"))


def test_names_of_parts():
    assert part_of("a b.wav#t=1.5,3") == ("a b.wav", 1.5, 3.0)
    assert part_of("a.wav") is None
    with pytest.raises(UserError, match="must start at 0 s or later and end after it starts"):
        part_of("a.wav#t=3,1")
