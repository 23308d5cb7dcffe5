"""Windows over long recordings, and `nlm infer` on files and folders."""

import io
import itertools
import json
import os
import pathlib

import numpy as np
import pytest
import soundfile

from nlm_jax.audio.config import AudioConfig
from nlm_jax.core.errors import UserError
from nlm_jax.generate import infer_command
from nlm_jax.generate.answer_file import Answered, answered
from nlm_jax.generate.recording_windows import (
    Noticed,
    Window,
    all_recordings,
    chosen,
    n_spans,
    recordings,
    sounds,
    spans,
    windows_of,
)


@pytest.mark.parametrize(
    ("seconds", "window", "hop", "starts"),
    [
        (0.4, 10, 10, [0]),
        (10.0, 10, 10, [0]),
        (10.005, 10, 10, [0]),
        (13.2, 10, 10, [0, 10]),
        (20.0, 10, 10, [0, 10]),
        (20.0, 10, 5, [0, 5, 10]),
        (12.0, 10, 5, [0, 5]),
    ],
)
def test_all_of_a_recording_is_heard(seconds, window, hop, starts):
    made = spans(seconds, window, hop)
    assert [s for s, _ in made] == starts
    assert made[-1][1] >= seconds - 0.01
    assert all(b[0] <= a[1] for a, b in itertools.pairwise(made))  # no gap


def test_windows_of_the_reference(golden):
    """The official long-file inference: its windows are ours, which go on to the end of the recording."""
    for case in json.loads((golden / "dataprep.json").read_text())["sliding_window"]:
        made = spans(case["seconds"], case["window_seconds"], case["hop_seconds"])
        if not case["n_windows"]:  # 0.4 s: the official code raises; here the one window is padded
            assert len(made) == 1
            continue
        said = [f"#{start:.2f}s - {end:.2f}s#: X" for start, end in made]
        assert said[: case["n_windows"]] == case["output"].splitlines()
        assert len(said) - case["n_windows"] in (0, 1)


@pytest.mark.parametrize(
    ("window", "hop", "word"),
    [(0.2, 0.1, "window"), (float("inf"), 5, "window"), (5, -1, "hop"), (5, 0, "hop"), (5, float("nan"), "hop")],
)
def test_wrong_windows(window, hop, word):
    with pytest.raises(UserError, match=f"^{word}="):
        spans(30.0, window, hop)


def test_windows_fit_into_the_clips_of_the_model():
    assert chosen(None, None, 2.0) == (2.0, 2.0)
    assert chosen(1.5, None, 2.0) == (1.5, 1.5)
    assert chosen(None, 0.5, 2.0) == (2.0, 0.5)
    assert chosen(None, None, 0.3) == (0.3, 0.3)
    with pytest.raises(UserError, match=r"window=3: the model hears 0\.5 to 2 seconds at a time"):
        chosen(3, None, 2.0)
    with pytest.raises(UserError, match=r"window=0\.2: the model hears 0\.5 to 30 seconds at a time"):
        chosen(0.2, 1.0, 30.0)


def test_a_window_is_its_part_of_the_file(tmp_path):
    wave = np.linspace(-0.5, 0.5, 16000 * 13).astype("f4")
    soundfile.write(tmp_path / "long.wav", wave, 16000, subtype="FLOAT")
    first, last = windows_of(tmp_path / "long.wav", 10.0, 10.0)
    np.testing.assert_array_equal(first.wave(), wave[:160000])
    np.testing.assert_array_equal(last.wave()[:48000], wave[160000:])
    assert last == Window(tmp_path / "long.wav", 10.0, 20.0)
    assert last.wave().shape == (160000,)
    assert not last.wave()[48000:].any()


def test_a_recording_without_samples(tmp_path):
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, "f4"), 16000)
    with pytest.raises(UserError, match=r"empty\.wav: holds no audio samples"):
        next(windows_of(tmp_path / "empty.wav", 10.0, 10.0))


def test_recordings_of_a_folder(tmp_path):
    for name in ("b.wav", "a.FLAC", "notes.txt"):
        (tmp_path / name).touch()
    assert [f.name for f in recordings(tmp_path)] == ["a.FLAC", "b.wav"]
    with pytest.raises(UserError, match="no such file or folder"):
        recordings(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no recordings"):
        recordings(tmp_path / "empty")


def test_count_of_windows():
    """Counted without making them; hops that do not divide anything evenly."""
    rng = np.random.default_rng(0)
    for _ in range(2_000):
        window = rng.uniform(0.5, 10)
        seconds, hop = rng.uniform(0.01, 60), rng.uniform(0.05, 1) * window
        starts, at = [0.0], 1
        while starts[-1] + window < seconds - 0.01:
            starts.append(at * hop)
            at += 1
        assert n_spans(seconds, window, hop) == len(starts)
    assert n_spans(1e9, 10, 0.1) > 9e9  # thirty years


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_windows_one_after_the_other(tmp_path, suffix):
    """A recording that stays open gives the same windows as one that is opened for each, in any order."""
    noise = np.random.default_rng(0).normal(0, 0.1, 44_100 * 7)
    soundfile.write(tmp_path / f"a.{suffix}", noise, 44_100)
    windows = list(windows_of(tmp_path / f"a.{suffix}", 2.0, 1.0))
    for some in (windows, windows[::2], windows[::-1]):
        for (window, heard, reason), expected in zip(sounds([some], "HQ"), some, strict=True):
            assert (window.start, reason) == (expected.start, "")
            # An MP3's decoder keeps a state; where one jumps to, the first samples differ in the last bits.
            np.testing.assert_allclose(heard, expected.wave(), rtol=0, atol=2e-3 if suffix == "mp3" else 1e-6)


def test_windows_that_cannot_be_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(32_000, np.nan), 16_000, subtype="FLOAT")
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    windows = [[Window(tmp_path / name, start, start + 1.0) for start in (0.0, 1.0)] for name in ("a.wav", "b.wav")]
    found = [(window.file.name, heard, reason.partition(": ")[2]) for window, heard, reason in sounds(windows, "HQ")]
    # One that cannot be opened is named once.
    assert [(name, heard) for name, heard, _ in found] == [("a.wav", None), ("a.wav", None), ("b.wav", None)]
    assert found[0][2] == "holds samples that are NaN or infinite, at 0.000 s"


def test_a_year_is_planned_in_a_moment(tmp_path, monkeypatch):
    """No window is made before it is heard, and what is answered already takes eight bytes a window."""
    monkeypatch.setattr(infer_command, "seconds_of", lambda file, noticed: 365 * 86_400.0)
    done = Answered()
    for i in range(1_000):
        done.add("long.wav", i * 10.0, i * 10.0 + 10.0)
    lengths, count, errors = infer_command.plan([tmp_path / "long.wav"], 10.0, 10.0, done, Noticed())
    assert (count, errors) == (3_153_600, [])
    lengths = {pathlib.Path("long.wav"): 365 * 86_400.0}
    assert next(next(infer_command.todo(lengths, 10.0, 10.0, done))).start == 10_000.0


def test_several_paths(tmp_path):
    for name in ("b.wav", "a.wav"):
        (tmp_path / name).touch()
    paths = [tmp_path / "b.wav", tmp_path]
    assert [file.name for file in all_recordings(paths)] == ["b.wav", "a.wav"]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name, seconds in (("one", 1.0), ("two", 2.5)):
        soundfile.write(tmp_path / "in" / f"{name}.wav", 0.1 * rng.normal(size=round(16000 * seconds)), 16000)
    (tmp_path / "in" / "broken.wav").write_bytes(b"RIFF no audio")
    return tmp_path


def test_infer_on_a_folder(nlm, golden, folder):
    out = folder / "answers" / "out.jsonl"
    flags = ["--model", golden / "model", "--qformer-config", golden / "qformer_config.json", "--query", "What is it?"]
    flags += ["--window", "2", "--hop", "1", "--max-new-tokens", "6", "--batch-size", "2", "--dtype", "float32"]
    assert nlm("infer", "--audio", folder / "in", "--out", out, *flags)[0] == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    answers = [r for r in rows if "prediction" in r]
    assert [(r["file"][-7:], r["start"], r["end"]) for r in answers] == [
        ("one.wav", 0.0, 1.0),
        ("two.wav", 0.0, 2.0),
        ("two.wav", 1.0, 2.5),
    ]
    assert [r["file"][-10:] for r in rows if "error" in r] == ["broken.wav"]

    # Stopped in the middle of a line, then run again: the same rows, nothing twice.
    text = out.read_text()
    out.write_text(text[: len(text) - 20])
    assert nlm("infer", "--audio", folder / "in", "--out", out, *flags)[0] == 0
    again = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(map(str, again)) == sorted(map(str, rows))


def test_another_question_is_asked_anew(tmp_path):
    row = {"file": "a.wav", "start": 0.0, "end": 10.0, "query": "What?", "prediction": "x"}
    (tmp_path / "out.jsonl").write_text(json.dumps(row) + "\n")
    assert answered(tmp_path / "out.jsonl", "What?").starts("a.wav", 10.0) == {0.0}
    assert answered(tmp_path / "out.jsonl", "What?").starts("a.wav", 5.0) == set()
    assert len(answered(tmp_path / "out.jsonl", "Who?")) == 0
    (tmp_path / "other.jsonl").write_text('{"something": "else"}\n')
    with pytest.raises(UserError, match=r"other\.jsonl:1"):
        answered(tmp_path / "other.jsonl", "What?")


def test_the_facade_answers_windows(golden, folder):
    from nlm_jax import NatureLM

    model = NatureLM.from_pretrained(golden / "model", dtype="float32", qformer_config=golden / "qformer_config.json")
    file = folder / "in" / "two.wav"
    rows = model.generate_windows(file, "What is it?", window=2.0, hop=1.0, max_new_tokens=4)
    assert [(start, end) for start, end, _ in rows] == [(0.0, 2.0), (1.0, 2.5)]
    wave = soundfile.read(file, dtype="float32")[0]
    assert rows[0][2] == model.generate([wave[:32000]], ["What is it?"], max_new_tokens=4)[0]


class Echo:
    """Stands for a model: answers with the number of windows it was given."""

    def generate(self, audios, queries, **options):
        return [f"{len(audios)} windows"] * len(audios)


@pytest.fixture
def infer_here(nlm, tmp_path, monkeypatch):
    """`infer_here(*flags)`: rows and messages of `nlm infer` with windows of 2 s."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(infer_command, "load_model", lambda args, merging_alpha: Echo())
    monkeypatch.setattr(infer_command, "audio_config", lambda model: AudioConfig())

    def run(*flags):
        status, _, err = nlm("infer", "--model=x", "--query=What?", "--out=a.jsonl", "--window=2", "--hop=2", *flags)
        assert status == 0, err
        return [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()], " ".join(err.split())

    return run


def test_infer_says_what_it_leaves_out(infer_here, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    flac = io.BytesIO()
    soundfile.write(flac, np.random.default_rng(0).normal(0, 0.1, 96_000), 16_000, format="FLAC")
    (folder / "cut.flac").write_bytes(flac.getvalue()[: len(flac.getvalue()) * 7 // 10])
    soundfile.write(folder / "bat.wav", 0.3 * np.sin(np.arange(192_000) * 1.5), 192_000)
    for name in ("a.m4a", "b.M4A", "c.wma", "._bat.wav"):
        (folder / name).touch()
    rows, err = infer_here("--audio=in")
    assert "warning: in: 2 .m4a files were not read: convert them to wav or flac" in err
    assert "warning: in: 1 .wma file was not read" in err
    assert "in/cut.flac: damaged after 4." in err
    assert "warning: 1 recording has most of the energy above 8 kHz" in err
    assert [(row["file"], row["start"], row["sample_rate"]) for row in rows] == [
        ("in/bat.wav", 0.0, 192_000), ("in/cut.flac", 0.0, 16_000), ("in/cut.flac", 2.0, 16_000),
        ("in/cut.flac", 4.0, 16_000),
    ]  # fmt: skip
    assert rows[0]["end"] == 1.0
    assert 4.0 < rows[-1]["end"] < 4.5
    again, err = infer_here("--audio", folder, "in")  # absolute, and named twice
    assert again == rows
    assert "4 windows were there already" in err


def test_infer_on_names_that_are_not_utf_8(infer_here, tmp_path):
    (tmp_path / "in").mkdir()
    soundfile.write(os.fsencode(tmp_path) + b"/in/caf\xe9.wav", np.ones(48_000) / 9, 16_000, format="WAV")
    rows, _ = infer_here("--audio=in", "--labels", "csv", "raven", "audacity")
    assert [(row["file"], row["end"]) for row in rows] == [("in/caf\\xe9.wav", 2.0), ("in/caf\\xe9.wav", 3.0)]
    assert infer_here("--audio=in")[0] == rows
    assert (tmp_path / "a" / "caf\\xe9.txt").read_text() == "0.000000\t3.000000\t2 windows\n"


def test_windows_end_where_nothing_more_decodes(tmp_path):
    """However long a recording is said to be: its windows are not even counted."""
    soundfile.write(tmp_path / "a.wav", np.ones(40_000) / 9, 16_000)
    endless = (Window(tmp_path / "a.wav", 2.0 * i, 2.0 * i + 2.0) for i in itertools.count())
    found = list(sounds([endless, [Window(tmp_path / "a.wav", 0.0, 1.0)]], "HQ"))
    assert [(window.start, window.end, reason) for window, _, reason in found] == [
        (0.0, 2.0, ""), (2.0, 2.5, ""), (0.0, 1.0, "")
    ]  # fmt: skip
    assert found[1][1].shape == (32_000,)
