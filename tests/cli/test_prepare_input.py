"""`nlm prepare` on bad input: the sentence, status 2, and nothing written that was not there before."""

import json
import os

import numpy as np
import pytest
import soundfile

GOOD = {"path": "good.wav", "prompt": "What is it?", "text": "an owl", "task": "species"}


@pytest.fixture
def folder(tmp_path):
    """A folder with one good recording and four bad ones."""
    tone = (0.1 * np.sin(np.arange(16000) / 10)).astype(np.float32)
    soundfile.write(tmp_path / "good.wav", tone, 16000)
    soundfile.write(tmp_path / "zero.wav", tone[:0], 16000)
    (tmp_path / "corrupt.wav").write_bytes(b"no audio at all")
    (tmp_path / "corrupt.flac").write_bytes(b"fLaC" + bytes(range(200)))
    (tmp_path / "empty.mp3").touch()
    return tmp_path


def annotate(folder, *rows):
    path = folder / "rows.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def refuses(nlm, sentence, *arguments, out):
    before = sorted(out.rglob("*")) if out.is_dir() else []
    status, _, err = nlm("prepare", *arguments, "--out", out)
    last = err.strip().splitlines()[-1]
    assert status == 2
    assert last.startswith("nlm prepare: error: ")
    assert sentence in last
    assert (sorted(out.rglob("*")) if out.is_dir() else []) == before


def test_wrong_path(nlm, tmp_path):
    refuses(nlm, f"{tmp_path / 'no.jsonl'}: no such annotation file", tmp_path / "no.jsonl", out=tmp_path / "out")


def test_a_folder_for_annotations(nlm, tmp_path):
    refuses(nlm, "neither labels.csv nor sub-folders with recordings", tmp_path, out=tmp_path / "out")


@pytest.mark.parametrize("rows", [[], ["", ""], ["[]"]])
def test_empty_manifest(nlm, folder, rows):
    refuses(nlm, "rows.jsonl: holds no examples", annotate(folder, *rows), out=folder / "out")


def test_no_example_of_that_split(nlm, folder):
    rows = annotate(folder, {**GOOD, "split": "train"})
    refuses(nlm, "holds no examples of split 'test'", rows, "--split=test", out=folder / "out")


@pytest.mark.parametrize("field", GOOD)
def test_missing_field(nlm, folder, field):
    rows = annotate(folder, GOOD, {k: v for k, v in GOOD.items() if k != field})
    refuses(nlm, f"rows.jsonl:2: missing field '{field}'", rows, out=folder / "out")


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([GOOD, '{"path": '], "rows.jsonl:2: not valid JSON"),
        (["3"], "rows.jsonl:1: expected a JSON object, found 3"),
        ([{**GOOD, "prompt": ["a"]}], "rows.jsonl:1: field 'prompt' must be text"),
        ([{**GOOD, "files": "good.wav"}], "rows.jsonl:1: field 'files' must be a list of paths"),
        ([{**GOOD, "task": " "}], "rows.jsonl:1: field 'task' is empty"),
    ],
)
def test_broken_rows(nlm, folder, rows, sentence):
    refuses(nlm, sentence, annotate(folder, *rows), out=folder / "out")


def test_audio_in_the_place_of_annotations(nlm, folder):
    refuses(nlm, "good.wav: is a recording; give the table of its labels", folder / "good.wav", out=folder / "out")


def test_output_folder_in_use(nlm, folder):
    refuses(nlm, "exists and is no prepared corpus", annotate(folder, GOOD), out=folder)
    assert (folder / "good.wav").stat().st_size > 30000


def test_output_is_a_file(nlm, folder):
    refuses(nlm, "exists and is no prepared corpus", annotate(folder, GOOD), out=folder / "good.wav")


def test_output_below_a_file(nlm, folder):
    refuses(nlm, "Not a directory", annotate(folder, GOOD), out=folder / "good.wav" / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_output_not_writable(nlm, folder):
    locked = folder / "locked"
    locked.mkdir(mode=0o500)
    refuses(nlm, "Permission denied", annotate(folder, GOOD), out=locked / "out")


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--workers=0", "--workers must be at least 1"),
        ("--shard-size=0", "--shard-size and --workers must be at least 1"),
        ("--max-seconds=-1", "--max-seconds at least 0"),
        ("--workers=two", "argument --workers: invalid int value: 'two'"),
        ("--format=csv", "--format=csv: unknown; choose one of auto, manifest, official"),
        ("--encoding=mp3", "argument --encoding: invalid choice: 'mp3'"),
        ("--worker=2", "unknown argument '--worker=2'; did you mean --workers?"),
    ],
)
def test_bad_flags(nlm, folder, flag, sentence):
    refuses(nlm, sentence, annotate(folder, GOOD), flag, out=folder / "out")


def test_bad_recordings_are_left_out_with_their_reason(nlm, folder):
    names = {
        "zero.wav": "holds no audio samples",
        "corrupt.wav": "not readable audio",
        "corrupt.flac": "not readable audio",
        "empty.mp3": "the file is empty",
        "missing.wav": "no such file",
    }
    rows = annotate(folder, GOOD, *({**GOOD, "path": name} for name in names))
    status, out, _ = nlm("prepare", rows, "--out", folder / "out")
    assert status == 0
    assert "1 examples, 1 clips" in out
    rejects = [json.loads(line) for line in (folder / "out" / "rejects.jsonl").read_text().splitlines()]
    assert [entry["file"] for entry in rejects] == list(names)
    for entry, reason in zip(rejects, names.values(), strict=True):
        assert reason in entry["reason"]


def test_nothing_usable(nlm, folder):
    rows = annotate(folder, {**GOOD, "path": "zero.wav"}, {**GOOD, "path": "corrupt.wav"})
    status, _, err = nlm("prepare", rows, "--out", folder / "out")
    assert status == 2
    assert "none of its 2 examples can be used" in err
    assert "zero.wav: holds no audio samples" in err


def test_a_finished_corpus_is_not_overwritten(nlm, folder):
    out = folder / "out"
    assert nlm("prepare", annotate(folder, GOOD), "--out", out)[0] == 0
    manifest = (out / "manifest.json").read_bytes()
    refuses(nlm, "holds a corpus made with other", annotate(folder, GOOD, GOOD), out=out)
    assert (out / "manifest.json").read_bytes() == manifest


def test_a_corrected_command_starts_afresh(nlm, tmp_path):
    """A wrong --audio-root or --tokenizer must not stand in the way of the right one in the same --out."""
    annotations, out = tmp_path / "a.jsonl", tmp_path / "out"
    (tmp_path / "audio").mkdir()
    soundfile.write(tmp_path / "audio" / "x.wav", np.zeros(16000), 16000)
    annotations.write_text(json.dumps({"path": "x.wav", "prompt": "What?", "text": "a", "task": "t"}) + "\n")
    status, _, message = nlm("prepare", annotations, "--out", out, "--audio-root", tmp_path)
    assert (status, "none of its 1 examples" in message) == (2, True)
    status, _, _ = nlm(
        "prepare", annotations, "--out", out, "--audio-root", tmp_path / "audio", "--tokenizer", "nowhere"
    )
    assert status == 2
    assert nlm("prepare", annotations, "--out", out, "--audio-root", tmp_path / "audio")[0] == 0
    assert json.loads((out / "manifest.json").read_text())["clips"] == 1


def test_a_wrong_tokenizer_can_be_put_right(nlm, folder):
    rows, out = annotate(folder, GOOD), folder / "out"
    refuses(nlm, "tokenizer /nowhere", rows, "--tokenizer=/nowhere", out=out)
    assert nlm("prepare", rows, "--out", out)[0] == 0


def test_a_wrong_audio_root_can_be_put_right(nlm, folder):
    rows, out = annotate(folder, GOOD), folder / "out"
    assert nlm("prepare", rows, "--out", out, "--audio-root=/nowhere")[0] == 2
    assert nlm("prepare", rows, "--out", out)[0] == 0


def test_nested_beyond_reading(nlm, tmp_path):
    (tmp_path / "rows.jsonl").write_text("[" * 100_000)
    status, _, err = nlm("prepare", tmp_path / "rows.jsonl", "--out", tmp_path / "out")
    assert status == 2
    assert "rows.jsonl:1: not valid JSON (nested too deeply" in err
    assert "Traceback" not in err
