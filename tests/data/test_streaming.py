"""Corpora in buckets: shards come when they are read, into a cache of bounded size, through a network that fails."""

import dataclasses
import logging
import os
import pickle
import subprocess
import sys

import fsspec
import huggingface_hub
import numpy as np
import pytest

from nlm_jax.core import filecache, remote
from nlm_jax.core.batch import FIELDS
from nlm_jax.core.errors import UserError
from nlm_jax.core.filecache import FileCache
from nlm_jax.data.config import AugmentConfig, DataConfig
from nlm_jax.data.dataset import Corpus
from nlm_jax.data.pipeline import train_set

URL = "memory://bucket/tones"


@pytest.fixture
def bucket(monkeypatch, tmp_path, prepared):
    """The prepared corpus in a bucket, a cache of its own, and the names of the files that were fetched."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "PAUSE", 0.0)
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    fs.put(f"{prepared}/", "/bucket/tones/", recursive=True)
    fetched = []
    get_file = type(fs).get_file
    monkeypatch.setattr(
        type(fs),
        "get_file",
        lambda self, path, *a, **k: (fetched.append(path.rsplit("/", 1)[-1]), get_file(self, path, *a, **k))[1],
    )
    fs.fetched = fetched
    yield fs
    fs.store.clear()


@pytest.fixture(scope="module")
def config():
    return DataConfig(
        train=(URL,),
        seconds=0.5,
        rows=4,
        row_tokens=256,
        row_clips=6,
        row_answers=96,
        window_rows=16,
        augment=AugmentConfig(mixup_prob=0.5, noise_prob=0.3),
    )


def take(iterator, count):
    try:
        return [next(iterator) for _ in range(count)]
    finally:
        iterator.close()


def shards_in(names):
    return [name for name in names if name.endswith(".arrayrecord")]


def cached(tmp_path):
    return [p for p in (tmp_path / "cache").rglob("*.arrayrecord") if p.is_file()]


def test_only_what_is_read_is_fetched(bucket):
    corpus = Corpus([URL])
    assert "manifest.json" in bucket.fetched
    assert "taxon.npy" in bucket.fetched
    assert not shards_in(bucket.fetched)
    corpus.entry(3)
    assert shards_in(bucket.fetched) == ["examples-00000.arrayrecord"]
    corpus.clip(0, 0)
    corpus.clip(1, 0)
    assert shards_in(bucket.fetched) == ["examples-00000.arrayrecord", "clips-00000.arrayrecord"]
    Corpus([URL]).clip(0, 0)  # the next process finds it
    assert len(shards_in(bucket.fetched)) == 2
    assert corpus.name(3) == "tones: example 3"


def test_batches_from_a_url_are_those_from_disk(bucket, config, prepared, tokenizer, fmt):
    here = train_set(dataclasses.replace(config, train=(str(prepared),)), tokenizer, fmt).batches()
    there = train_set(config, tokenizer, fmt).batches()
    for a, b in zip(take(here, 5), take(there, 5), strict=True):
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert not there.damaged


def test_the_cache_is_bounded(bucket, config, tokenizer, fmt, prepared, tmp_path, monkeypatch):
    """Room for two of four shards: batches stay the same, the least recently used goes, and is fetched again."""
    monkeypatch.setattr(filecache, "TOUCH", 0.0)
    sizes = [f.stat().st_size for f in prepared.glob("*.arrayrecord")]
    limit = sorted(sizes)[-1] + sorted(sizes)[-2] + 1
    small = dataclasses.replace(config, cache_gb=limit / 1e9)
    want = take(train_set(dataclasses.replace(config, train=(str(prepared),)), tokenizer, fmt).batches(), 6)
    for a, b in zip(take(train_set(small, tokenizer, fmt).batches(), 6), want, strict=True):
        np.testing.assert_array_equal(a.audio, b.audio)
    assert sum(p.stat().st_size for p in cached(tmp_path)) <= limit
    assert len(shards_in(bucket.fetched)) > len(sizes)


def test_a_network_that_fails_now_and_then(bucket, config, tokenizer, fmt, monkeypatch, caplog):
    """Every shard fails twice before it comes: counted, named, and the batches are the same."""
    get_file, failures = bucket.get_file, {}

    def flaky(path, *args, **options):
        failures[path] = failures.get(path, 0) + 1
        if path.endswith(".arrayrecord") and failures[path] <= 2:
            raise (ConnectionError("reset"), TimeoutError("slow"))[failures[path] - 1]
        return get_file(path, *args, **options)

    monkeypatch.setattr(bucket, "get_file", flaky)
    iterator = train_set(config, tokenizer, fmt).batches()
    with caplog.at_level(logging.WARNING):
        take(iterator, 10)  # by then every shard has come
    shards = sum(path.endswith(".arrayrecord") for path in failures)
    assert iterator.retried == {"ConnectionError": shards, "TimeoutError": shards}, iterator.retried
    named = [m for m in caplog.messages if m.startswith(f"{URL}/clips-00000.arrayrecord: ")]
    assert any("ConnectionError: reset; try 2 of 8" in m for m in named)
    assert any("TimeoutError: slow; try 3 of 8" in m for m in named)


def test_pauses_double(monkeypatch):
    slept, again = [], []
    monkeypatch.setattr(remote.time, "sleep", slept.append)
    with pytest.raises(UserError, match=r"gs://b/x: OSError: away \(6 tries\)"):
        remote.retry(lambda: (_ for _ in ()).throw(OSError("away")), "gs://b/x", 6, again)
    assert len(slept) == 5
    for number, pause in enumerate(slept):
        assert 2**number * remote.PAUSE <= pause <= 2**number * remote.PAUSE * 1.25
    assert again == ["OSError"] * 5


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError])
def test_what_another_try_would_not_mend(bucket, error, monkeypatch):
    corpus = Corpus([URL])
    monkeypatch.setattr(bucket, "get_file", lambda *a, **k: (_ for _ in ()).throw(error("no")))
    with pytest.raises(UserError, match=rf"memory://bucket/tones/examples-00000\.arrayrecord: {error.__name__}: no"):
        corpus.entry(0)
    assert not corpus.retries()


def test_a_truncated_transfer_is_repeated(bucket, prepared, monkeypatch):
    get_file, cut = bucket.get_file, []

    def short(path, target, **options):
        get_file(path, target, **options)
        if path.endswith(".arrayrecord") and not cut:
            cut.append(path)
            os.truncate(target, 100)

    monkeypatch.setattr(bucket, "get_file", short)
    assert Corpus([URL]).entry(5) == dataclasses.replace(Corpus([prepared]).entry(5))
    assert cut


def test_a_shard_that_is_damaged_there(bucket, caplog):
    """Its good records are read; the others are corrupt as they would be on disk."""
    content = bytearray(bucket.store["/bucket/tones/clips-00000.arrayrecord"].getvalue())
    content[1000:1200] = bytes(200)
    bucket.pipe("/bucket/tones/clips-00000.arrayrecord", bytes(content))
    corpus = Corpus([URL])
    good = bad = 0
    for e in range(16):
        try:
            good += corpus.clip(e, 0).size > 0
        except ValueError:
            bad += 1
    assert good > bad > 0
    assert any("differs from its digest in the manifest" in message for message in caplog.messages)


def test_mistakes(bucket):
    with pytest.raises(UserError, match="memory://bucket/nothing: no such folder"):
        Corpus(["memory://bucket/nothing"])
    bucket.rm("/bucket/tones/manifest.json")
    with pytest.raises(UserError, match=r"memory://bucket/tones: no manifest\.json"):
        Corpus([URL])
    with pytest.raises(UserError, match=r"data\.cache_gb=0\.0"):
        DataConfig(cache_gb=0.0)


def test_records_travel_to_workers(bucket):
    corpus = Corpus([URL])
    records = pickle.loads(pickle.dumps(corpus.parts[0].clip_records))
    assert records.read(0, 0) == corpus.parts[0].clip_records.read(0, 0)


def test_the_hub_has_a_file_system():
    assert fsspec.get_filesystem_class("hf") is huggingface_hub.HfFileSystem


# --- the cache alone --------------------------------------------------------------------------------------------------
def test_least_recently_used_goes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(filecache, "TOUCH", 0.0)
    cache = FileCache(tmp_path, 30)
    for name in ("a", "b", "c"):
        os.utime(cache.get(name, lambda path: path.write_bytes(bytes(10))), (1.0, 1.0 + ord(name)))
    assert cache.use("a")
    cache.get("d", lambda path: path.write_bytes(bytes(10)))
    assert [cache.use(name) for name in "abcd"] == [True, False, True, True]
    cache.get("large", lambda path: path.write_bytes(bytes(100)))
    assert [cache.use(name) for name in ("a", "c", "d", "large")] == [False, False, False, True]


def test_a_failed_fetch_leaves_nothing(tmp_path):
    cache = FileCache(tmp_path, 30)

    def half(path):
        path.write_bytes(bytes(5))
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        cache.get("a", half)
    assert not cache.use("a")
    assert not list((tmp_path / "files").rglob("*.part"))


def test_processes_share_it(tmp_path):
    """Four processes want the same six files at once, with room for three: nobody reads half a file."""
    code = f"""
import pathlib, sys, time
from nlm_jax.core.filecache import FileCache
cache = FileCache(pathlib.Path({str(tmp_path)!r}), 3 * 100_000)
def fetch(name):
    def write(path):
        with path.open("wb") as file:
            for _ in range(10): file.write(name.encode() * 10_000); time.sleep(0.001)
    return write
for turn in range(10):
    for k in range(6):
        name = "abcdef"[(k + int(sys.argv[1])) % 6]
        for _ in range(100):
            try: content = cache.get(name, fetch(name)).read_bytes(); break
            except FileNotFoundError: continue
        assert content == name.encode() * 100_000
"""
    running = [subprocess.Popen([sys.executable, "-c", code, str(k)]) for k in range(4)]
    assert [process.wait(60) for process in running] == [0, 0, 0, 0]
    assert sum(p.stat().st_size for p in (tmp_path / "files").rglob("*") if p.is_file()) <= 300_000


def test_people_read_the_url_and_not_where_its_copy_is(bucket):
    here = remote.fetch(URL)
    assert remote.with_urls(here / "rejects.jsonl") == f"{URL}/rejects.jsonl"
    assert remote.with_urls("elsewhere") == "elsewhere"
