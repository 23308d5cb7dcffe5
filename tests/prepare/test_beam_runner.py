"""nlm prepare --runner=beam: Apache Beam's DirectRunner writes what this machine writes, byte for byte."""

import json
import sys

import numpy as np
import pytest
import soundfile

from nlm_jax.core import remote
from nlm_jax.data.dataset import Corpus
from nlm_jax.prepare import write_clips


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Seven recordings, one of them damaged and one missing, in two folders; the last row repeats one."""
    folder = tmp_path_factory.mktemp("raw")
    rng = np.random.default_rng(3)
    (folder / "deep").mkdir()
    lines = []
    for k in range(7):
        name = f"{'deep/' * (k % 2)}é{k}.wav"
        soundfile.write(folder / name, rng.uniform(-0.3, 0.3, 22050 + 100 * k), 22050)
        lines.append({"path": name, "prompt": "What?", "text": f"bird {k}", "task": "t", "split": "train"})
    (folder / "deep" / "é3.wav").write_bytes(b"no audio at all")
    lines += [{**lines[0], "text": "again"}, {**lines[0], "path": "missing.wav"}]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def contents(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


@pytest.fixture(scope="module")
def local(rows, tmp_path_factory):
    from nlm_jax import cli

    out = tmp_path_factory.mktemp("local") / "out"
    assert cli.main(["prepare", str(rows), "--out", str(out), "--shard-size=3", "--window=0.5"]) == 0
    return out


FLAGS = ("--shard-size=3", "--window=0.5", "--runner=beam")


@pytest.fixture
def direct():
    pytest.importorskip("apache_beam", reason="needs the extra [beam]")


def test_the_same_directory(nlm, direct, rows, local, tmp_path):
    status, printed, _ = nlm("prepare", rows, "--out", tmp_path / "out", *FLAGS, "--beam-args=--runner=DirectRunner")
    assert status == 0
    assert "left out" in printed
    assert contents(tmp_path / "out") == contents(local)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["rejected"] == {"clips": 2, "examples": 2}
    assert len(Corpus([tmp_path / "out"])) == manifest["examples"] > 10


def test_a_stopped_job_resumes(nlm, direct, rows, local, tmp_path, monkeypatch):
    real, done, broken = write_clips.convert, [], [True]

    def convert(recipe, path):
        if broken and len(done) == 7:
            raise RuntimeError("the worker is gone")
        done.append(path)
        return real(recipe, path)

    monkeypatch.setattr(write_clips, "convert", convert)
    out = tmp_path / "out"
    with pytest.raises(RuntimeError, match="the worker is gone"):
        nlm("prepare", rows, "--out", out, *FLAGS)
    finished = {f.name: f.stat().st_mtime_ns for f in out.glob("clips-*.arrayrecord")}
    assert len(finished) == 2
    broken.clear()
    done.clear()
    assert nlm("prepare", rows, "--out", out, *FLAGS)[0] == 0
    assert contents(out) == contents(local)
    assert all((out / name).stat().st_mtime_ns == time for name, time in finished.items())
    assert len(done) == len(np.load(out / "index" / "clip_shard.npy")) + 2 - 6  # two shards of three were there


def test_recordings_and_results_in_buckets(nlm, direct, rows, local, tmp_path, monkeypatch):
    """Workers fetch and deliver; this machine holds no clips, and what is there opens as any prepared directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files, _ = remote.filesystem("memory://raw")
    files.put(str(rows.parent), "/raw", recursive=True)
    where = ("--audio-root=memory://raw", "--out=memory://made/set")
    assert nlm("prepare", rows, *where, *FLAGS)[0] == 0
    assert not list((tmp_path / "cache").rglob("clips-*"))
    result, want = contents(remote.fetch("memory://made/set")), contents(local)
    assert result.keys() == want.keys()
    different = {name for name in result if result[name] != want[name]}
    assert different == {"rejects.jsonl"}  # it names the bucket
    assert b"memory://raw/missing.wav: no such file" in result["rejects.jsonl"]
    assert nlm("prepare", rows, *where, *FLAGS)[0] == 0  # finished: nothing is done again
    files.rm("/raw", recursive=True)
    files.rm("/made", recursive=True)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--runner=beam", "--beam-args=--runner='"], "No closing quotation"),
        (["--runner=beam", "--beam-args=--runner=NoSuchRunner"], "--beam-args: "),
        (["--beam-args=--runner=DirectRunner"], "--beam-args goes with --runner=beam"),
        (["--runner=spark"], "argument --runner: invalid choice: 'spark'"),
    ],
)
def test_wrong_flags(nlm, direct, rows, tmp_path, flags, sentence):
    status, _, printed = nlm("prepare", rows, "--out", tmp_path / "out", *flags)
    assert status == 2
    assert sentence in printed.strip().splitlines()[-1]


def test_beam_is_not_installed(nlm, rows, tmp_path, monkeypatch):
    for name in ("apache_beam", "apache_beam.options", "apache_beam.options.pipeline_options"):
        monkeypatch.setitem(sys.modules, name, None)
    status, _, printed = nlm("prepare", rows, "--out", tmp_path / "out", "--runner=beam")
    assert (status, "pip install 'nlm_jax[beam]'" in printed) == (2, True)
    assert not (tmp_path / "out").exists()
