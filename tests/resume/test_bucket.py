"""A run in a bucket: what is saved is there, and another machine goes on with it."""

import dataclasses

import fsspec
import pytest

from nlm_jax.convert.run import open_run
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


def test_another_machine_goes_on(machine, config, monkeypatch, tmp_path):
    machine("first")
    made = config(steps=(4, 3), every=2)
    made = dataclasses.replace(made, stages=made.stages[:1])
    pushes, push = [], remote.Mirror.push

    def killed_after_two(mirror):
        pushes.append(1)
        if len(pushes) == 2:
            raise KeyboardInterrupt
        if len(pushes) < 2:
            push(mirror)

    monkeypatch.setattr(remote.Mirror, "push", killed_after_two)
    with pytest.raises(KeyboardInterrupt):
        train(made, "memory://bucket/run")
    monkeypatch.setattr(remote.Mirror, "push", push)
    machine("second")
    assert train(made, "memory://bucket/run") == 0
    train(made, tmp_path / "straight")
    machine("third")
    ours, straight = (open_run(w, "last").load().leaves for w in ("memory://bucket/run", tmp_path / "straight"))
    assert all((ours[path] == straight[path]).all() for path in straight)
    fs = fsspec.filesystem("memory")
    assert fs.exists("/bucket/run/metrics.jsonl")
    assert not fs.find("/bucket/run/checkpoints/stage1/last/2")  # only the newest is kept, there as here
