"""Windows over long recordings, and `nlm infer` on files and folders."""

import itertools
import json

import numpy as np
import pytest
import soundfile

from nlm_jax.core.errors import UserError
from nlm_jax.generate.infer import answered
from nlm_jax.generate.windows import Window, recordings, spans, windows_of


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


@pytest.mark.parametrize(
    ("window", "hop", "word"), [(0.2, 0.1, "window"), (11, 5, "window"), (5, 6, "hop"), (5, 0, "hop")]
)
def test_wrong_windows(window, hop, word):
    with pytest.raises(UserError, match=f"^{word}="):
        spans(30.0, window, hop)


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
        ("one.wav", 0.0, 2.0),
        ("two.wav", 0.0, 2.0),
        ("two.wav", 1.0, 3.0),
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
    assert answered(tmp_path / "out.jsonl", "What?") == {("a.wav", 0.0, 10.0)}
    assert answered(tmp_path / "out.jsonl", "Who?") == set()
    (tmp_path / "other.jsonl").write_text('{"something": "else"}\n')
    with pytest.raises(UserError, match=r"other\.jsonl:1"):
        answered(tmp_path / "other.jsonl", "What?")


def test_the_facade_answers_windows(golden, folder):
    from nlm_jax import NatureLM

    model = NatureLM.from_pretrained(golden / "model", dtype="float32", qformer_config=golden / "qformer_config.json")
    file = folder / "in" / "two.wav"
    rows = model.generate_windows(file, "What is it?", window=2.0, hop=1.0, max_new_tokens=4)
    assert [(start, end) for start, end, _ in rows] == [(0.0, 2.0), (1.0, 3.0)]
    wave = soundfile.read(file, dtype="float32")[0]
    assert rows[0][2] == model.generate([wave[:32000]], ["What is it?"], max_new_tokens=4)[0]
