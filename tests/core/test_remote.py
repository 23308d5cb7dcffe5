"""Paths in buckets, on fsspec's in-memory file system: read through a cache, written back, never half seen."""

import json

import fsspec
import numpy as np
import pytest
import soundfile

from nlm_jax.cli import main
from nlm_jax.core import remote
from nlm_jax.core.errors import UserError
from nlm_jax.train.remote_workdir import open_remote_workdir


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    """An empty bucket, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "PAUSE", 0.0)
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    yield fs
    fs.store.clear()


def test_files_are_fetched_once_and_again_when_they_change(bucket, monkeypatch):
    bucket.pipe({"/data/a/one.txt": b"1", "/data/two.txt": b"2"})
    calls = []
    get_file = bucket.get_file
    monkeypatch.setattr(bucket, "get_file", lambda path, *a, **k: (calls.append(path), get_file(path, *a, **k)))
    folder = remote.fetch("memory://data")
    assert (folder / "a" / "one.txt").read_text() == "1"
    assert (folder / "two.txt").read_text() == "2"
    assert len(calls) == 2
    remote.fetch("memory://data")
    assert len(calls) == 2
    bucket.pipe("/data/two.txt", b"two")
    bucket.rm("/data/a/one.txt")
    remote.fetch("memory://data")
    assert len(calls) == 3
    assert (folder / "two.txt").read_text() == "two"
    assert not (folder / "a" / "one.txt").exists()


def test_one_file(bucket):
    bucket.pipe("/x/clip.wav", b"sound")
    assert remote.fetch("memory://x/clip.wav").read_bytes() == b"sound"


def test_half_a_delivery_is_not_seen(bucket):
    mirror = remote.Mirror("memory://run")
    mirror.pull()
    mirror.local.mkdir(parents=True, exist_ok=True)
    (mirror.local / "done").write_text("yes")
    mirror.push()
    bucket.pipe("/run/half", b"...")  # what another delivery had sent when it was killed
    again = remote.fetch("memory://run")
    assert [p.name for p in again.iterdir()] == ["done"]


def test_folders_of_other_writers_are_left_alone(bucket):
    """Orbax writes checkpoints of several hosts itself: the mirror leaves them alone, a reader gets them."""
    mirror = remote.Mirror("memory://run", excluded=("checkpoints",))
    mirror.pull()
    mirror.local.mkdir(parents=True, exist_ok=True)
    (mirror.local / "run.json").write_text("{}")
    mirror.push()
    bucket.pipe("/run/checkpoints/1/array", b"...")
    mirror.pull()
    mirror.push()
    assert bucket.exists("/run/checkpoints/1/array")
    assert not (mirror.local / "checkpoints").exists()
    assert (remote.fetch("memory://run") / "checkpoints" / "1" / "array").is_file()


def test_several_processes_write_to_what_orbax_writes_to():
    with pytest.raises(UserError, match="several processes can write to gs:// and s3:// only"):
        open_remote_workdir("memory://run", 2)


def test_a_network_that_fails_now_and_then(bucket, monkeypatch):
    bucket.pipe("/data/file", b"content")
    get_file, failed = bucket.get_file, []

    def flaky(*args, **options):
        if len(failed) < 2:
            failed.append(1)
            raise ConnectionError("reset")
        return get_file(*args, **options)

    monkeypatch.setattr(bucket, "get_file", flaky)
    assert remote.fetch("memory://data/file").read_bytes() == b"content"
    failed.clear()
    monkeypatch.setattr(bucket, "get_file", lambda *a, **k: (_ for _ in ()).throw(ConnectionError("down")))
    bucket.pipe("/data/other", b"content")
    with pytest.raises(UserError, match="memory://data/other: ConnectionError: down"):
        remote.fetch("memory://data/other")


def test_mistakes(bucket, capsys):
    with pytest.raises(UserError, match="memory://nothing: no such file or folder"):
        remote.fetch("memory://nothing")
    with pytest.raises(UserError, match="foo://x: foo:// is not a supported protocol"):
        remote.fetch("foo://x")
    assert main(["export", "memory://nothing", "--format=nlm", "--out=memory://out"]) == 2
    assert "memory://nothing: no such file or folder" in capsys.readouterr().err


def test_commands_read_and_write_buckets(bucket, tmp_path):
    """Annotations with their recordings come from a bucket, what is prepared goes to one and is opened from there."""
    rows = []
    for i in range(3):
        soundfile.write(tmp_path / "clip.wav", np.zeros(16_000, np.float32) + 0.1, 16_000)
        bucket.pipe(f"/raw/{i}.wav", (tmp_path / "clip.wav").read_bytes())
        rows.append({"path": f"{i}.wav", "prompt": "<Audio><AudioHere></Audio> What?", "text": "Owl", "task": "t"})
    bucket.pipe("/raw/rows.jsonl", "\n".join(map(json.dumps, rows)).encode())
    assert main(["prepare", "memory://raw/rows.jsonl", "--out=memory://made/train"]) == 0
    assert json.loads(bucket.cat_file("/made/train/manifest.json"))["clips"] == 3
    from nlm_jax.data.dataset import Corpus

    assert len(Corpus(("memory://made/train",))) == 3
