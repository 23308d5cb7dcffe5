"""A process keeps few shards open, however many a corpus has."""

import gc
import os
import pathlib
import threading

import pytest

from nlm_jax.data import shards


@pytest.fixture
def records(tmp_path, monkeypatch):
    """Seven shards of three records each, of which two may be open."""
    monkeypatch.setattr(shards, "OPEN", shards.OpenShards(2))
    for n in range(7):
        path = shards.shard_path(tmp_path, "clips", n)
        shards.write_records(path, [f"{n} {k}".encode() for k in range(3)], shards.CLIP_OPTIONS)
    return shards.Records(tmp_path, "clips")


def open_files(folder: pathlib.Path) -> int:
    """Files in `folder` that this process has open."""
    count = 0
    for entry in pathlib.Path("/proc/self/fd").iterdir():
        try:
            count += os.readlink(entry).startswith(str(folder))
        except FileNotFoundError:  # of the listing itself
            continue
    return count


def test_the_least_recently_used_is_closed(records, tmp_path):
    for shard in (0, 1, 0, 2):
        assert records.read(shard, 1) == f"{shard} 1".encode()
    assert sorted(shards.OPEN.of(records.number)) == [0, 2]
    for shard in (*range(7), *range(7)):
        assert records.read(shard, 2) == f"{shard} 2".encode()
        if os.path.isdir("/proc/self/fd"):
            assert open_files(tmp_path) <= 2


def test_unused_streams_are_closed(records, tmp_path):
    other = shards.Records(tmp_path, "clips")
    assert records.read(3, 0) == other.read(3, 0)
    number = other.number
    assert shards.OPEN.of(number) == [3]
    del other
    gc.collect()
    assert shards.OPEN.of(number) == []
    assert shards.OPEN.of(records.number) == [3]


def test_threads_read_while_shards_close(records):
    count, wrong = [], []

    def read(first: int) -> None:
        for k in range(300):
            shard = (first + 3 * k) % 7
            (count if records.read(shard, k % 3) == f"{shard} {k % 3}".encode() else wrong).append(shard)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(count), wrong) == (1200, [])
    assert len(shards.OPEN.of(records.number)) <= 2
