"""Windows of long recordings, and `nlm infer` on files and folders."""

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
from nlm_jax.generate.answer_file import AnsweredWindows, answered_windows
from nlm_jax.generate.recording_windows import (
    Notices,
    Window,
    all_recordings,
    n_spans,
    read_windows,
    recordings,
    spans,
    window_and_hop,
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
def test_windows_cover_the_whole_recording(seconds, window, hop, starts):
    windows = spans(seconds, window, hop)
    assert [start for start, _ in windows] == starts
    assert windows[-1][1] >= seconds - 0.01
    assert all(b[0] <= a[1] for a, b in itertools.pairwise(windows))  # no gap


def test_windows_of_the_reference(golden):
    """The windows of the official long-file inference are ours; we add one that reaches the end of the recording."""
    for case in json.loads((golden / "dataprep.json").read_text())["sliding_window"]:
        windows = spans(case["seconds"], case["window_seconds"], case["hop_seconds"])
        if not case["n_windows"]:  # 0.4 s: the official code raises; here the one window is padded
            assert len(windows) == 1
            continue
        lines = [f"#{start:.2f}s - {end:.2f}s#: X" for start, end in windows]
        assert lines[: case["n_windows"]] == case["output"].splitlines()
        assert len(lines) - case["n_windows"] in (0, 1)


@pytest.mark.parametrize(
    ("window", "hop", "field"),
    [(0.2, 0.1, "window"), (float("inf"), 5, "window"), (5, -1, "hop"), (5, 0, "hop"), (5, float("nan"), "hop")],
)
def test_invalid_windows(window, hop, field):
    with pytest.raises(UserError, match=f"^{field}="):
        spans(30.0, window, hop)


def test_windows_fit_into_the_clip_length():
    assert window_and_hop(None, None, 2.0) == (2.0, 2.0)
    assert window_and_hop(1.5, None, 2.0) == (1.5, 1.5)
    assert window_and_hop(None, 0.5, 2.0) == (2.0, 0.5)
    assert window_and_hop(None, None, 0.3) == (0.3, 0.3)
    with pytest.raises(UserError, match=r"window=3: the model takes 0\.5 to 2 seconds at a time"):
        window_and_hop(3, None, 2.0)
    with pytest.raises(UserError, match=r"window=0\.2: the model takes 0\.5 to 30 seconds at a time"):
        window_and_hop(0.2, 1.0, 30.0)


def test_audio_of_a_window(tmp_path):
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
    """`n_spans` equals a count one by one, with hops that divide nothing evenly."""
    rng = np.random.default_rng(0)
    for _ in range(2_000):
        window = rng.uniform(0.5, 10)
        seconds, hop = rng.uniform(0.01, 60), rng.uniform(0.05, 1) * window
        starts, index = [0.0], 1
        while starts[-1] + window < seconds - 0.01:
            starts.append(index * hop)
            index += 1
        assert n_spans(seconds, window, hop) == len(starts)
    assert n_spans(1e9, 10, 0.1) > 9e9  # thirty years


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_windows_one_after_the_other(tmp_path, suffix):
    """A recording that is opened once gives the same audio as one that is opened for every window, in any order."""
    noise = np.random.default_rng(0).normal(0, 0.1, 44_100 * 7)
    soundfile.write(tmp_path / f"a.{suffix}", noise, 44_100)
    windows = list(windows_of(tmp_path / f"a.{suffix}", 2.0, 1.0))
    for order in (windows, windows[::2], windows[::-1]):
        for (window, audio, reason), expected in zip(read_windows([order], "HQ"), order, strict=True):
            assert (window.start, reason) == (expected.start, "")
            # An MP3 decoder has a state; after a seek, the first samples differ in the last bits.
            np.testing.assert_allclose(audio, expected.wave(), rtol=0, atol=2e-3 if suffix == "mp3" else 1e-6)


def test_windows_that_cannot_be_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(32_000, np.nan), 16_000, subtype="FLOAT")
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    windows = [[Window(tmp_path / name, start, start + 1.0) for start in (0.0, 1.0)] for name in ("a.wav", "b.wav")]
    rows = [
        (window.file.name, audio, reason.partition(": ")[2]) for window, audio, reason in read_windows(windows, "HQ")
    ]
    # A recording that cannot be opened has one row.
    assert [(name, audio) for name, audio, _ in rows] == [("a.wav", None), ("a.wav", None), ("b.wav", None)]
    assert rows[0][2] == "holds samples that are NaN or infinite, at 0.000 s"


def test_a_year_is_planned_in_a_moment(tmp_path, monkeypatch):
    """Windows are generated one by one, and an answered window takes eight bytes."""
    monkeypatch.setattr(infer_command, "duration", lambda file, noticed: 365 * 86_400.0)
    answered = AnsweredWindows()
    for i in range(1_000):
        answered.add("long.wav", i * 10.0, i * 10.0 + 10.0)
    lengths, count, errors = infer_command.plan([tmp_path / "long.wav"], 10.0, 10.0, answered, Notices())
    assert (count, errors) == (3_153_600, [])
    lengths = {pathlib.Path("long.wav"): 365 * 86_400.0}
    assert next(next(infer_command.unanswered(lengths, 10.0, 10.0, answered))).start == 10_000.0


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

    # Stopped in the middle of a line, then run again: the same rows, no duplicates.
    text = out.read_text()
    out.write_text(text[: len(text) - 20])
    assert nlm("infer", "--audio", folder / "in", "--out", out, *flags)[0] == 0
    again = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(map(str, again)) == sorted(map(str, rows))


def test_answers_to_another_query_do_not_count(tmp_path):
    row = {"file": "a.wav", "start": 0.0, "end": 10.0, "query": "What?", "prediction": "x"}
    (tmp_path / "out.jsonl").write_text(json.dumps(row) + "\n")
    assert answered_windows(tmp_path / "out.jsonl", "What?").starts("a.wav", 10.0) == {0.0}
    assert answered_windows(tmp_path / "out.jsonl", "What?").starts("a.wav", 5.0) == set()
    assert len(answered_windows(tmp_path / "out.jsonl", "Who?")) == 0
    (tmp_path / "other.jsonl").write_text('{"something": "else"}\n')
    with pytest.raises(UserError, match=r"other\.jsonl:1"):
        answered_windows(tmp_path / "other.jsonl", "What?")


def test_the_facade_answers_windows(golden, folder):
    from nlm_jax import NatureLM

    model = NatureLM.from_pretrained(golden / "model", dtype="float32", qformer_config=golden / "qformer_config.json")
    file = folder / "in" / "two.wav"
    rows = model.generate_windows(file, "What is it?", window=2.0, hop=1.0, max_new_tokens=4)
    assert [(start, end) for start, end, _ in rows] == [(0.0, 2.0), (1.0, 2.5)]
    wave = soundfile.read(file, dtype="float32")[0]
    assert rows[0][2] == model.generate([wave[:32000]], ["What is it?"], max_new_tokens=4)[0]


class Echo:
    """A stand-in for a model: answers with the number of windows in the call."""

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


def test_infer_warns_about_what_it_does_not_read(infer_here, tmp_path):
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
    again, err = infer_here("--audio", folder, "in")  # an absolute path, and the folder twice
    assert again == rows
    assert "4 windows were there already" in err


def test_infer_on_names_that_are_not_utf_8(infer_here, tmp_path):
    (tmp_path / "in").mkdir()
    soundfile.write(os.fsencode(tmp_path) + b"/in/caf\xe9.wav", np.ones(48_000) / 9, 16_000, format="WAV")
    rows, _ = infer_here("--audio=in", "--labels", "csv", "raven", "audacity")
    assert [(row["file"], row["end"]) for row in rows] == [("in/caf\\xe9.wav", 2.0), ("in/caf\\xe9.wav", 3.0)]
    assert infer_here("--audio=in")[0] == rows
    assert (tmp_path / "a" / "caf\\xe9.txt").read_text() == "0.000000\t3.000000\t2 windows\n"


def test_windows_end_with_the_decodable_samples(tmp_path):
    """Even if a recording claims to be endless."""
    soundfile.write(tmp_path / "a.wav", np.ones(40_000) / 9, 16_000)
    endless = (Window(tmp_path / "a.wav", 2.0 * i, 2.0 * i + 2.0) for i in itertools.count())
    rows = list(read_windows([endless, [Window(tmp_path / "a.wav", 0.0, 1.0)]], "HQ"))
    assert [(window.start, window.end, reason) for window, _, reason in rows] == [
        (0.0, 2.0, ""), (2.0, 2.5, ""), (0.0, 1.0, "")
    ]  # fmt: skip
    assert rows[1][1].shape == (32_000,)
