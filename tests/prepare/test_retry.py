"""The same nlm prepare again: after a repair, after an interruption, after nothing."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import soundfile

from nlm_jax.core.errors import UserError
from nlm_jax.data.dataset import Corpus
from nlm_jax.prepare import notes, write_clips
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare


def sound(file, seed, seconds=0.5):
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * 16_000)), 16_000)


def contents(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def answers(out, split=""):
    corpus = Corpus([out], split)
    return sorted(corpus.entry(e).text for e in range(len(corpus)))


@pytest.fixture
def field(tmp_path):
    """Twelve rows about as many recordings; number 7 is missing and number 10 is damaged."""
    folder = tmp_path / "field"
    for k in range(12):
        if k != 7:
            sound(folder / f"{k}.wav", k)
    (folder / "10.wav").write_bytes(b"no sound")
    rows = "".join(f"{k}.wav,bird {k}\n" for k in range(12))
    (folder / "labels.csv").write_text(f"file,label\n{rows}")
    return folder


def repair(field, k, seconds=0.5):
    sound(field / f"{k}.wav", k, seconds)


@pytest.fixture
def converted(monkeypatch):
    """Names of what is decoded."""
    names, real = [], write_clips.convert
    monkeypatch.setattr(write_clips, "convert", lambda recipe, name: names.append(name) or real(recipe, name))
    return names


@pytest.mark.parametrize("source", ["labels.csv", "."])
@pytest.mark.parametrize("flags", [{}, {"duplicates": "none", "encoding": "pcm16"}, {"window": 0.3, "hop": 0.2}])
def test_repaired_recordings_come_in(field, tmp_path, converted, source, flags):
    """What is made again is what a fresh run makes; shards without a repaired recording stay."""
    options = PrepareOptions(field / source, tmp_path / "out", shard_size=4, **flags)
    before = prepare(options)
    assert before["rejected"] == {"clips": 2, "examples": 2}
    first = (options.out / "clips-00000.arrayrecord").stat().st_mtime_ns
    repair(field, 7)
    converted.clear()
    prepared = prepare(options)
    assert prepared["rejected"] == {"clips": 1, "examples": 1}
    assert (options.out / "clips-00000.arrayrecord").stat().st_mtime_ns == first
    assert "0.wav" not in converted
    fresh = PrepareOptions(field / source, tmp_path / "fresh", shard_size=4, **flags)
    assert prepare(fresh) == prepared
    assert contents(fresh.out) == contents(options.out)
    repair(field, 10, 2.0)
    prepare(options)
    shutil.rmtree(fresh.out)
    prepare(fresh)
    assert contents(fresh.out) == contents(options.out)
    assert len(set(answers(options.out))) == 12


def test_nothing_new(nlm, field, tmp_path, converted):
    command = ("prepare", field / "labels.csv", "--out", tmp_path / "out")
    assert nlm(*command)[0] == 0
    before = contents(tmp_path / "out")
    converted.clear()
    status, _, stderr = nlm(*command)
    assert status == 0
    assert "was finished on 20" in stderr
    assert "rejected recordings were tried again and are as they were: 2" in " ".join(stderr.split())
    assert sorted(converted) == ["10.wav", "7.wav"]
    assert contents(tmp_path / "out") == before
    repair(field, 7)
    assert "was finished, but what was rejected is different now (1)" in nlm(*command)[2]
    assert len(answers(tmp_path / "out")) == 11


def test_a_recording_that_its_table_did_not_find(tmp_path):
    """A row that was rejected as its recording was nowhere; with windows, so that nothing names its parts."""
    folder = tmp_path / "field"
    sound(folder / "a.wav", 1, 2.0)
    table = folder / "list.txt"
    rows = "".join(f"1\t0.2\t0.6\t0.2\t{name}\t{name}.wav\n" for name in "ab")
    table.write_text(f"Selection\tBegin Time (s)\tEnd Time (s)\tFile Offset (s)\tSpecies\tBegin File\n{rows}")
    options = PrepareOptions(table, tmp_path / "out", window=1.0)
    assert prepare(options)["rejected"]["examples"] == 1
    sound(folder / "b.wav", 2, 2.0)
    assert prepare(options)["rejected"]["examples"] == 0
    prepare(PrepareOptions(table, tmp_path / "fresh", window=1.0))
    assert contents(tmp_path / "fresh") == contents(options.out)


@pytest.mark.parametrize("flags", [{}, {"window": 1.0}, {"hold_out": 0.5}])
def test_a_recording_that_a_table_in_a_folder_did_not_find(tmp_path, flags):
    """Put there, it comes in; a recording that was used, or a table, must not have changed."""
    folder = tmp_path / "field"
    for k in range(2):
        sound(folder / f"{k}.wav", k, 2.0)
    for k in range(3):
        (folder / f"{k}.txt").write_text(f"0.5\t1.5\tbird{k % 2}\n")
    options = PrepareOptions(folder, tmp_path / "out", shard_size=1, **flags)
    assert prepare(options)["rejected"]["examples"] == 1
    sound(folder / "2.wav", 2, 2.0)
    sound(folder / "new.wav", 3)  # that no table names
    prepare(options)
    prepare(dataclasses.replace(options, out=tmp_path / "fresh"))
    again, fresh = contents(tmp_path / "out"), contents(tmp_path / "fresh")
    assert "2.wav" in json.dumps(
        [notes.headers(tmp_path / "out", n) for n in range(json.loads(again["manifest.json"])["clips"])]
    )
    assert again == fresh


@pytest.mark.parametrize("name", ["0.wav", "0.txt"])
def test_what_was_used_must_not_have_changed(tmp_path, name):
    folder = tmp_path / "field"
    sound(folder / "0.wav", 0, 2.0)
    for k in range(2):
        (folder / f"{k}.txt").write_text("0.5\t1.5\tbird\n")
    options = PrepareOptions(folder, tmp_path / "out")
    prepare(options)
    sound(folder / "1.wav", 1, 2.0)
    if name == "0.wav":
        sound(folder / name, 0, 3.0)
    else:
        (folder / name).write_text("0.5\t1.0\tbird\n")
    with pytest.raises(UserError, match=r"made with other annotations: .*field was changed, or files in it; choose"):
        prepare(options)


def test_another_reason_is_shown(field, tmp_path):
    options = PrepareOptions(field / "labels.csv", tmp_path / "out")
    prepare(options)
    (field / "7.wav").touch()
    prepare(options)
    assert "the file is empty" in (options.out / "rejects.jsonl").read_text()


def test_other_changes_of_a_folder_are_refused(field, tmp_path):
    options = PrepareOptions(field, tmp_path / "out")
    prepare(options)
    before = contents(options.out)
    sound(field / "0.wav", 99, 0.7)
    with pytest.raises(UserError, match=r"made with other annotations: .*field was changed, or files in it"):
        prepare(options)
    assert contents(options.out) == before


def test_a_repair_during_an_interruption(field, tmp_path, monkeypatch):
    real, done = write_clips.convert, []

    def convert(recipe, name):
        if len(done) == 11:
            raise KeyboardInterrupt
        done.append(name)
        return real(recipe, name)

    options = PrepareOptions(field / "labels.csv", tmp_path / "out", shard_size=2)
    monkeypatch.setattr(write_clips, "convert", convert)
    with pytest.raises(KeyboardInterrupt):
        prepare(options)
    monkeypatch.setattr(write_clips, "convert", real)
    repair(field, 7)
    prepare(options)
    prepare(PrepareOptions(field / "labels.csv", tmp_path / "fresh", shard_size=2))
    assert contents(tmp_path / "fresh") == contents(options.out)


def test_shards_of_an_earlier_version_are_converted_again(field, tmp_path):
    """Notes of an interrupted run without a version lack what the manifest needs."""
    options = PrepareOptions(field / "labels.csv", tmp_path / "out", shard_size=4)

    def write_and_stop(*args):
        write_clips.write_clips(*args, workers=1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(options, write=write_and_stop)
    note = options.out / "work" / "00000.json"
    content = json.loads(note.read_text())
    del content["version"]
    for entry in content["clips"]:
        entry.pop("source_rate", None)
    note.write_text(json.dumps(content))
    prepare(options)
    prepare(PrepareOptions(field / "labels.csv", tmp_path / "fresh", shard_size=4))
    assert contents(tmp_path / "fresh") == contents(options.out)


@pytest.fixture
def owls(tmp_path):
    """Four robins, and two owls of which either may be unreadable."""
    for k in range(4):
        sound(tmp_path / "in" / "robin" / f"{k}.wav", k)
    for k, name in enumerate("pq"):
        sound(tmp_path / "in" / "owl" / f"{name}.wav", 10 + k)
    return tmp_path / "in"


@pytest.mark.parametrize("name", "pq")
@pytest.mark.parametrize("flags", [{}, {"window": 0.2}])
def test_a_label_is_never_in_the_held_out_part_alone(owls, tmp_path, name, flags):
    (owls / "owl" / f"{name}.wav").write_bytes(b"no sound")
    prepared = prepare(PrepareOptions(owls, tmp_path / "out", hold_out=0.5, **flags))
    assert set(answers(tmp_path / "out", "train")) == {"owl", "robin"}
    assert set(answers(tmp_path / "out", "valid")) == {"robin"}
    assert prepared["hold_out"] == {"training_only": ["owl"]}


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_held_out_part_by_itself(owls, tmp_path, split):
    """Either side of the division is the same whether it is prepared alone or with the other."""
    (owls / "owl" / "p.wav").write_bytes(b"no sound")
    both = PrepareOptions(owls, tmp_path / "both", hold_out=0.5, shard_size=2)
    alone = PrepareOptions(owls, tmp_path / "alone", hold_out=0.5, shard_size=2, split=split)
    prepare(both)
    prepared = prepare(alone)
    assert answers(alone.out) == answers(both.out, split)
    assert prepared["clips"] == prepared["examples"]  # nothing of the other side is stored
    sound(owls / "owl" / "p.wav", 10)
    prepare(alone)
    shutil.rmtree(both.out)
    prepare(both)
    assert answers(alone.out) == answers(both.out, split)
    fresh = PrepareOptions(owls, tmp_path / "fresh", hold_out=0.5, shard_size=2, split=split)
    prepare(fresh)
    assert contents(fresh.out) == contents(alone.out)


def test_an_interrupted_split_resumes(owls, tmp_path, monkeypatch):
    """Also one that was stopped after the clips of the other side were taken out."""
    options = PrepareOptions(owls, tmp_path / "out", hold_out=0.5, shard_size=2, split="valid")
    monkeypatch.setattr("nlm_jax.prepare.write_examples.write_examples", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(options)
    monkeypatch.undo()
    prepare(options)
    fresh = PrepareOptions(owls, tmp_path / "fresh", hold_out=0.5, shard_size=2, split="valid")
    prepare(fresh)
    assert contents(fresh.out) == contents(options.out)


def test_a_second_label_of_a_held_out_recording_stays_in_training(tmp_path):
    rows = []
    for k in range(6):
        sound(tmp_path / "in" / f"{k}.wav", k, 1.0)
        rows += [f"{k}.wav,robin,0,0.4", f"{k}.wav,bird {k},0.5,0.9"]
    (tmp_path / "in" / "labels.csv").write_text("file,label,start,end\n" + "\n".join(rows) + "\n")
    prepare(PrepareOptions(tmp_path / "in", tmp_path / "out", hold_out=0.5))
    assert set(answers(tmp_path / "out", "train")) >= {f"bird {k}" for k in range(6)}


def test_a_training_part_that_is_all_there_is_can_be_divided(tmp_path):
    rows = [
        {"path": f"{k}.wav", "prompt": "p", "text": "t", "task": "k", "label": "x", "split": "train"} for k in range(4)
    ]
    for k in range(4):
        sound(tmp_path / f"{k}.wav", k)
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert prepare(PrepareOptions(tmp_path / "x.jsonl", tmp_path / "out", hold_out=0.25))["splits"] == {
        "train": 3,
        "valid": 1,
    }
    (tmp_path / "x.jsonl").write_text(
        "".join(json.dumps({**r, "split": r["split"] * (r["path"] > "2")}) + "\n" for r in rows)
    )
    prepared = prepare(PrepareOptions(tmp_path / "x.jsonl", tmp_path / "mixed", hold_out=0.25))
    assert prepared["splits"] == {"train": 3, "valid": 1}
    assert Corpus([tmp_path / "mixed"], "valid").clip_names(0)[0] in ("0.wav", "1.wav")
