"""nlm prepare --window: recordings in windows, with the labels that are heard in each."""

import itertools
import json

import numpy as np
import pytest
import soundfile

from nlm_jax.audio import wave
from nlm_jax.core.errors import UserError
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.schema import Example, part_of
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare
from nlm_jax.prepare.rejects import Reject, Report
from nlm_jax.prepare.windowing import PROMPT, Windows


def spans(windows, length):
    return [(start, end) for _, start, end in Windows(*windows, lambda name: length).of("a.wav")]


@pytest.mark.parametrize(
    ("windows", "length", "want"),
    [
        ((10, 5), 23.0, [(0, 10), (5, 15), (10, 20), (15, 23)]),
        ((10, 5), 20.0, [(0, 10), (5, 15), (10, 20)]),
        ((10, 10), 20.005, [(0, 10), (10, 20)]),
        ((10, 10), 21.5, [(0, 10), (10, 20), (20, 21.5)]),
        ((10, 5), 10.0, [(0, 10)]),
        ((10, 5), 0.25, [(0, 10)]),
    ],
)
def test_where_windows_lie(windows, length, want):
    assert spans(windows, length) == want


def test_names_keep_their_times():
    windows = Windows(300.96, 300.96, lambda name: 100000.0)
    assert windows.of("a.wav")[332][0] == "a.wav#t=99918.72,100000"


def test_every_moment_is_in_a_window():
    rng = np.random.default_rng(0)
    for _ in range(200):
        window = rng.uniform(0.5, 20)
        hop, length = rng.uniform(0.1, 1) * window, rng.uniform(0.1, 100)
        examples = spans((window, hop), length)
        assert examples[0][0] == 0
        assert examples[-1][1] >= length - 0.01
        assert all(b[0] <= a[1] + 0.01 and b[0] > a[0] for a, b in itertools.pairwise(examples))
        assert len(examples) <= length / hop + 2


def event(start, end, label, path="a.wav", **more):
    fields = {"prompt": "What is the common name for the focal species in the audio?", "task": "common-name", **more}
    name = f"{path}#t={start},{end}"
    return Example(name, (name,), **{"text": label, "label": label, "domain": "field", **fields})


def test_labels_of_a_window():
    events = [
        event(12, 14, "Owl"),
        event(1, 2, "Robin"),
        event(4.5, 5.5, "Wren"),
        event(6, 7, "Robin"),
        event(5, 5.5, "Robin"),
    ]
    examples = list(Windows(5, 5, lambda name: 20.0).cut(events))
    assert [(e.paths[0], e.text) for e in examples] == [
        ("a.wav#t=0,5", "Robin, Wren"),  # the Wren reaches over the edge, the Robin at 5 s does not
        ("a.wav#t=5,10", "Wren, Robin"),
        ("a.wav#t=10,15", "Owl"),
        ("a.wav#t=15,20", "None"),
    ]
    assert {(e.prompt, e.task, e.domain) for e in examples} == {(PROMPT, "common-multiple-detection", "field")}
    assert len({e.id for e in examples}) == 4


def test_scientific_names_and_facts():
    events = [
        event(0, 2, "Parus major", task="scientific-name", facts={"scientific_name": "Parus major"}),
        event(1, 3, "Pica pica", task="scientific-name", facts={"scientific_name": "Pica pica"}),
    ]
    (examples,) = Windows(5, 5, lambda name: 5.0).cut(events)
    assert examples.paths == ("a.wav",)
    assert examples.prompt == "What are the scientific names for the species in the audio, if any?"
    assert (examples.text, examples.facts) == (
        "Parus major, Pica pica",
        {"scientific_name": "Parus major", "others": "Pica pica"},
    )


def test_questions_of_their_own_and_splits():
    labelled_prompt = event(1, 6, "Robin", prompt="How many?", text="two", task="count")
    examples = list(Windows(5, 5, lambda name: 10.0).cut([labelled_prompt, event(7, 8, "Owl", split="valid")]))
    assert [(e.paths[0], e.prompt == PROMPT, e.text, e.split) for e in examples] == [
        ("a.wav#t=0,5", False, "two", ""),
        ("a.wav#t=5,10", False, "two", ""),
        ("a.wav#t=0,5", True, "None", "valid"),
        ("a.wav#t=5,10", True, "Owl", "valid"),
    ]


def test_other_examples_stay():
    def duration(name):
        raise UserError(f"{name}: not readable audio")

    pair = Example("p", ("a.wav", "b.wav"), "same?", "no", "same")
    text, broken = Example("t", (), "2+2?", "4", "text"), Example("b", ("x.wav",), "what?", "owl", "name")
    assert list(Windows(5, 5, duration).cut([pair, text, broken])) == [pair, text, broken]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """23 s of noise at 22.05 kHz, a short recording, and labels with times."""
    folder = tmp_path_factory.mktemp("windows")
    rng = np.random.default_rng(1)
    soundfile.write(folder / "long.flac", rng.uniform(-0.2, 0.2, round(22050 * 2.3)), 22050)
    soundfile.write(folder / "short.wav", rng.uniform(-0.2, 0.2, 8000), 16000)
    (folder / "labels.csv").write_text(
        "file,label,start,end\nlong.flac,Robin,0.2,0.4\nlong.flac,Wren,0.8,1.3\nshort.wav,Owl,0.1,0.2\n"
    )
    return folder


def test_prepared(folder, tmp_path):
    manifest = prepare(PrepareOptions(folder, tmp_path / "out", window=1.0, hop=0.5, encoding="pcm16"))
    corpus = Corpus([tmp_path / "out"])
    assert [corpus.entry(e).text for e in range(len(corpus))] == ["Robin, Wren", "Wren", "Wren", "None", "Owl"]
    assert (manifest["audio"]["window"], manifest["audio"]["hop"]) == (1.0, 0.5)
    assert manifest["duplicates"]["near"] == {"within": 0, "across": 0}  # windows of one recording overlap as meant
    whole = wave.load(folder / "long.flac")
    for e in range(4):
        want = whole[8000 * e : 8000 * e + 16000]
        result = corpus.clip(e, 0)
        assert abs(len(result) - len(want)) <= 1
        assert np.abs(result - want[: len(result)]).max() < 3e-4  # decoded in parts, as one


def test_labels_of_whole_recordings_hold_in_each_window(folder, tmp_path):
    rows = [{"path": "long.flac", "prompt": "What?", "text": "Robin", "task": "t"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps(rows[0]))
    options = PrepareOptions(tmp_path / "rows.jsonl", tmp_path / "out", audio_root=folder, window=1.0, max_seconds=0.5)
    manifest = prepare(options)
    assert (manifest["examples"], manifest["tasks"]) == (4, {"t": 4})
    assert np.load(tmp_path / "out" / "index" / "clip_samples.npy").tolist() == [16000, 16000, 16000, 12800]
    assert len({json.dumps(Corpus([tmp_path / "out"]).entry(e).id) for e in range(4)}) == 4


def test_a_long_recording_is_not_decoded_whole(folder, tmp_path, monkeypatch):
    read, real = [], soundfile.SoundFile.buffer_read_into

    def reading(self, buffer, dtype):
        read.append(real(self, buffer, dtype))
        return read[-1]

    monkeypatch.setattr(soundfile.SoundFile, "buffer_read_into", reading)
    prepare(PrepareOptions(folder, tmp_path / "out", window=0.5))
    assert max(read) < 0.8 * 22050


def test_absurd_values(nlm, folder, tmp_path):
    for flags, sentence in (
        (["--window=-1"], "--window -1: windows last at least 0.1 s"),
        (["--window=nan"], "--window nan"),
        (["--window=5", "--hop=6"], "--hop 6: lies between 0.1 s and the window, 5 s"),
        (["--window=5", "--hop=-1"], "--hop -1"),
        (["--hop=5"], "--hop goes with --window"),
        (["--window=five"], "argument --window: invalid float value: 'five'"),
    ):
        status, _, stderr = nlm("prepare", folder, "--out", tmp_path / "out", *flags)
        assert (status, sentence in stderr.strip().splitlines()[-1]) == (2, True), stderr
        assert not (tmp_path / "out").exists()


def lengths(name):
    if name == "damaged.wav":
        raise UserError(f"{name}: not readable audio")
    return 12.0


def test_labels_behind_the_end_are_rejects_and_make_no_negatives():
    """Their recording's other labels stay; what is heard in its other windows nobody knows."""
    report = Report()
    events = [
        event(1, 2, "Robin"),
        event(3500, 4500, "Wren", where="x.csv:3"),
        event(1.7e9, 1.7e9 + 3, "Wren", where="x.csv:4"),
        event(13, 14, "Wren", where="x.csv:5"),
        event(0, 800, "Wren", where="x.csv:6"),
        event(11, 15, "Owl"),  # the last window of some program
        event(1, 2, "Robin", path="b.wav"),
    ]
    examples = list(Windows(5, 5, lengths, report).cut(events))
    assert [(e.paths[0], e.text) for e in examples] == [
        ("a.wav#t=0,5", "Robin"),
        ("a.wav#t=10,12", "Owl"),
        ("b.wav#t=0,5", "Robin"),
        ("b.wav#t=5,10", "None"),
        ("b.wav#t=10,12", "None"),
    ]
    does, has = "the label {} s, but the recording has 12.00 s; {}?", "are the times in milliseconds"
    assert [(r.name, r.where, r.reason) for r in report.rejects] == [
        ("a.wav#t=3500,4500", "x.csv:3", does.format("starts at 3500", has)),
        (report.rejects[1].name, "x.csv:4", does.format("starts at 1700000000", "are the times counted from 1970")),
        ("a.wav#t=13,14", "x.csv:5", does.format("starts at 13", "is it a label of another recording")),
        ("a.wav#t=0,800", "x.csv:6", does.format("ends at 800", has)),
    ]
    assert report.notices == (
        "windows without a label that are left out, as labels of their recordings were rejected: 1",
    )


def test_a_row_with_one_label_says_nothing_of_the_rest():
    """As in BirdSet: every row has a copy of the soundscape, with one of its labels."""
    report = Report()
    rows = [event(1, 2, "Robin", path="x.parquet#row=0"), event(6, 7, "Wren", path="x.parquet#row=1")]
    examples = list(Windows(5, 5, lengths, report).cut([*rows, event(1, 2, "Robin")]))
    assert [(e.paths[0].partition("#t=")[0], e.text) for e in examples] == [
        ("x.parquet#row=0", "Robin"), ("x.parquet#row=1", "Wren"),
        ("a.wav", "Robin"), ("a.wav", "None"), ("a.wav", "None"),
    ]  # fmt: skip
    assert report.notices[0].endswith("which may be in other rows as well: 4")
    name = "x.parquet#row=2"
    silent = Example(name, (name,), PROMPT, "None", "common-multiple-detection", label="None")
    assert [e.text for e in Windows(5, 5, lengths).cut([silent])] == ["None"] * 3


def test_rejects_of_the_reader_make_no_negatives():
    report = Report()
    report.add(Reject("a.wav#t=3,1", "x.csv:2", "ends at 1 s, before it starts at 3 s"))
    examples = list(Windows(5, 5, lengths, report).cut([event(1, 2, "Robin")]))
    assert [e.text for e in examples] == ["Robin"]


def test_every_label_is_in_a_window():
    """Also one shorter than what two windows share of it, and one in the last moment of its recording."""
    rng = np.random.default_rng(0)
    tight = [event(4.9925, 5.0075, "Tick"), event(11.995, 12.0, "Tock")]
    assert [e.text for e in Windows(5, 5, lengths).cut(tight)] == ["Tick", "None", "Tock"]
    for _ in range(300):
        window = rng.uniform(0.1, 5)
        cut = Windows(window, rng.uniform(0.1, 1) * window, lengths)
        begin = rng.uniform(0, 12)
        labels = [event(begin, begin + 10 ** rng.uniform(-4, 1), "Tick"), event(rng.uniform(0, 1), 1, "Wren")]
        texts = [e.text for e in cut.cut(labels)]
        assert any("Tick" in text for text in texts)
        for one in cut.cut(labels):  # and in all that it reaches into
            _, start, end = part_of(one.paths[0])
            shared = min(end, part_of(labels[0].paths[0])[2]) - max(start, begin)
            assert ("Tick" in one.text) or shared < 0.0101


def test_labels_of_an_unreadable_recording_are_in_its_reject():
    examples = list(Windows(5, 5, lengths).cut([event(7, 8, "Robin", path="damaged.wav")]))
    assert [(e.paths, e.text) for e in examples] == [(("damaged.wav",), "Robin")]


@pytest.mark.parametrize("flags", [{}, {"window": 0.5}])
def test_labels_behind_the_end_in_a_corpus(folder, tmp_path, flags):
    rows = ["short.wav,Owl,0.1,0.2", "short.wav,Owl,100,200", "short.wav,Owl,0.3,70", "short.wav,Wren,0.4,0.8"]
    (tmp_path / "labels.csv").write_text("file,label,start,end\n" + "\n".join(rows) + "\n")
    manifest = prepare(PrepareOptions(tmp_path / "labels.csv", tmp_path / "out", audio_root=folder, **flags))
    corpus = Corpus([tmp_path / "out"])
    assert {corpus.entry(e).text for e in range(len(corpus))} <= {"Owl", "Wren", "Owl, Wren"}
    rejects = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    assert manifest["rejected"]["examples"] == len(rejects) == 2
    for entry, (line, words) in zip(rejects, ((3, "starts at 100 s"), (4, "ends at 70 s")), strict=True):
        assert entry["where"].endswith(f"labels.csv:{line}")
        assert f"the label {words}, but the recording has 0.50 s" in entry["reason"]


@pytest.mark.parametrize("name", ["new\nline.wav", "a#t=1,2.wav", "c.wav#channel=2"])
def test_a_part_of_a_file_of_any_name(name):
    assert part_of(f"{name}#t=1.5,1e2") == (name, 1.5, 100.0)
    assert part_of(name) is None
    assert part_of(f"{name}#t=1..5,2-1") is None
