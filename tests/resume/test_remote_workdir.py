"""A run in a bucket: what is saved is there, and another machine goes on with it."""

import dataclasses
import json

import fsspec
import pytest

from nlm_jax.convert.formats import open_checkpoint
from nlm_jax.core import remote
from nlm_jax.train.loop import train


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """`machine(name)`: go on as if on another machine, whose cache is empty."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()

    def become(name):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))

    yield become
    fs.store.clear()


def test_another_machine_resumes(machine, config, monkeypatch, tmp_path):
    machine("first")
    cfg = config(steps=(4, 3), every=2, checkpoint={"every": 2, "keep": 1})
    cfg = dataclasses.replace(cfg, stages=cfg.stages[:1])
    pushes, push = [], remote.Mirror.push

    def killed_after_two(mirror):
        pushes.append(1)
        if len(pushes) == 2:
            raise KeyboardInterrupt
        if len(pushes) < 2:
            push(mirror)

    monkeypatch.setattr(remote.Mirror, "push", killed_after_two)
    with pytest.raises(KeyboardInterrupt):
        train(cfg, "memory://bucket/run")
    monkeypatch.setattr(remote.Mirror, "push", push)
    machine("second")
    assert train(cfg, "memory://bucket/run") == 0
    machine("third")
    assert open_checkpoint("memory://bucket/run", "run", which="last").load().leaves
    fs = fsspec.filesystem("memory")
    lines = fs.cat_file("/bucket/run/metrics.jsonl").decode().splitlines()
    steps = [row["step"] for row in map(json.loads, lines) if row["kind"] == "train"]
    assert steps == [1, 2, 3, 4]  # the third and fourth were done again, from the second's checkpoint
    records = [json.loads(line) for line in fs.cat_file("/bucket/run/mixture_stage1.jsonl").decode().splitlines()]
    assert records[0]["epochs"] == pytest.approx(records[0]["draws"] / records[0]["drawable"], rel=1e-3)
    assert {"source", "domain", "task"} < {row["of"] for row in records}
    assert len(fs.cat_file("/bucket/run/mixture_stage1.txt").decode().splitlines()) == len(records) + 1
    assert (tmp_path / "second").is_dir()
    assert not fs.find("/bucket/run/checkpoints/stage1/last/2")  # only the newest is kept, there as here
