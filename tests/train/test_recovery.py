"""Damaged checkpoints are noticed whatever is wrong with which file, set aside, and the one before is used."""

import os
import shutil
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from nlm_jax.convert.checksums import CHECKSUMS, damage
from nlm_jax.convert.saved import check, read_params
from nlm_jax.core.errors import UserError
from nlm_jax.train import checkpoint
from nlm_jax.train.checkpoint import Meta
from nlm_jax.train.recovery import exclusive_lock, recover

LEAVES = {"a/kernel": jnp.arange(6000, dtype=jnp.float32).reshape(60, 100), "a/bias": jnp.ones(7, jnp.bfloat16)}
MOMENTS = {"opt/mu": jnp.linspace(0, 1, 500)}


def write(root, stage, kind, *steps, keep=9):
    """Checkpoints as training saves them."""
    manager = checkpoint.manager(epath.Path(root), stage, kind, keep)
    for step in steps:
        leaves = {path: leaf + step for path, leaf in LEAVES.items()}
        meta = Meta(stage, step, 2 * step, 1.0 / step, {}, {})
        checkpoint.save(manager, leaves, meta, MOMENTS if kind == "last" else None)
    manager.wait_until_finished()
    manager.close()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """One stage with checkpoints of three steps and two best ones."""
    root = tmp_path_factory.mktemp("saved")
    write(root, "first", "last", 2, 4, 6)
    write(root, "first", "best", 2, 5)
    return root


@pytest.fixture
def run(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


def last(root, stage="first"):
    return root / "checkpoints" / stage / "last"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def shorten(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file):
    file.write_bytes(b"")


def zero(file):
    file.write_bytes(bytes(file.stat().st_size))


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x10
    file.write_bytes(data)


HARM = {"truncated": shorten, "emptied": empty, "zeroed": zero, "flipped": flip, "deleted": os.unlink}


@pytest.mark.parametrize("harm", HARM)
def test_any_damage_of_any_file_is_noticed(saved, tmp_path, harm):
    """Except a flipped byte in Orbax's note of where and when it committed, which nothing reads."""
    source = last(saved) / "6"
    files = [p.relative_to(source) for p in sorted(source.rglob("*")) if p.is_file()]
    assert len(files) > 10
    for number, name in enumerate(files):
        step = shutil.copytree(source, tmp_path / str(number))
        assert damage(step) is None
        HARM[harm](step / name)
        if harm == "flipped" and str(name) == "commit_success.txt":
            continue
        damaged = damage(step)
        assert damaged, f"{harm} {name}"
        # A shortened list of checksums cannot say which file it was.
        assert damaged.startswith((str(name), CHECKSUMS)), damaged
        assert "\n" not in damaged


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("item", ["params", "opt", "meta"])
def test_the_one_before_is_used(run, harm, item):
    file = max((p for p in (last(run) / "6" / item).rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    HARM[harm](file)
    before = content(last(run) / "6")
    warnings = recover(epath.Path(run), ["first"], 2)
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{last(run) / '6'}: damaged checkpoint: {item}/")
    assert warnings[0].endswith(f"set aside as 6.damaged, resuming from {last(run) / '4'}")
    assert names(last(run)) == ["2", "4", "6.damaged"]
    assert content(last(run) / "6.damaged") == before
    assert names(run / "checkpoints" / "first" / "best") == ["2"]  # 5 comes again
    manager = checkpoint.manager(epath.Path(run), "first", "last", 2)
    assert manager.latest_step() == 4
    assert checkpoint.read_meta(manager, 4).position == 8
    manager.close()
    assert recover(epath.Path(run), ["first"], 2) == []


def test_set_aside_twice(run):
    zero(last(run) / "6" / "meta" / "metadata")
    recover(epath.Path(run), ["first"], 3)
    write(run, "first", "last", 6)
    empty(last(run) / "6" / "meta" / "metadata")
    assert "set aside as 6.damaged.2" in recover(epath.Path(run), ["first"], 3)[0]
    assert names(last(run)) == ["2", "4", "6.damaged", "6.damaged.2"]


def test_none_is_whole(run):
    for step in names(last(run)):
        flip(last(run) / step / "opt" / "_METADATA")
    (last(run) / "8.orbax-checkpoint-tmp").mkdir()
    before = names(last(run)), content(run)
    with pytest.raises(UserError, match=r"last/6: damaged checkpoint: opt/_METADATA .* there is no intact one"):
        recover(epath.Path(run), ["first"], 1)
    assert (names(last(run)), content(run)) == before


def test_a_stage_without_a_whole_one_starts_again(run):
    write(run, "second", "last", 1)
    write(run, "second", "best", 1)
    os.unlink(last(run, "second") / "1" / "params" / "manifest.ocdbt")
    warnings = recover(epath.Path(run), ["first", "second"], 3)
    assert len(warnings) == 1
    assert "second/last/1: damaged checkpoint: params/manifest.ocdbt is missing" in warnings[0]
    assert warnings[0].endswith(f"resuming from {last(run) / '6'}")
    assert names(run / "checkpoints" / "second" / "best") == []


def test_earlier_stages_are_not_searched_once_a_later_one_has_started(run):
    write(run, "second", "last", 1)
    flip(last(run) / "6" / "opt" / "_METADATA")
    assert recover(epath.Path(run), ["first", "second"], 3) == []
    assert "6" in names(last(run))


def test_the_best_one(run):
    """Made anew from the last one of the same step if there is one, else the one before is the best."""
    best = run / "checkpoints" / "first" / "best"
    flip(best / "5" / "params" / "_METADATA")
    (warnings,) = recover(epath.Path(run), ["first"], 3)
    assert warnings.endswith(f"set aside as 5.damaged, the best one is now {best / '2'}")
    leaves, whole = read_params(best / "2"), content(best / "2" / "params")
    empty(best / "2" / "params" / "manifest.ocdbt")
    (warnings,) = recover(epath.Path(run), ["first"], 3)
    assert warnings.endswith(f"set aside as 2.damaged, restored from {last(run) / '2'}")
    assert content(best / "2" / "params").keys() != whole.keys() or damage(best / "2", ("meta", "params")) is None
    assert not (best / "2" / "opt").exists()
    for path, leaf in read_params(best / "2").items():
        np.testing.assert_array_equal(leaf, leaves[path])
    manager = checkpoint.manager(epath.Path(run), "first", "best", 2)
    assert checkpoint.read_meta(manager, 2).best == 0.5
    manager.close()


def test_without_checksums(run):
    """Checkpoints of earlier versions are read to see whether they are whole."""
    for step in names(last(run)):
        old(last(run) / step)
    assert recover(epath.Path(run), ["first"], 3) == []
    data = max((last(run) / "6" / "opt").rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0)
    shorten(data)
    (warnings,) = recover(epath.Path(run), ["first"], 3)
    assert "last/6: damaged checkpoint: opt cannot be read at " in warnings
    assert "\n" not in warnings
    zero(last(run) / "4" / "params" / "manifest.ocdbt")
    with pytest.raises(UserError, match=r"last/4: damaged checkpoint: params cannot be read .* nlm train"):
        check(last(run) / "4", ("meta", "params"))


def old(step):
    """Makes a checkpoint one of a version that knew no checksums."""
    os.unlink(step / CHECKSUMS)
    meta = step / "meta" / "metadata"
    meta.write_text(meta.read_text().replace(', "checksums": true', ""))


def test_what_is_not_read_may_be_damaged(run):
    zero(last(run) / "6" / "opt" / "_METADATA")
    check(last(run) / "6", ("meta", "params"))
    with pytest.raises(UserError, match=r"opt/_METADATA differs .* restore it from a copy, or call nlm train"):
        check(last(run) / "6", ("meta", "opt"))


def test_left_overs_are_cleared_and_nothing_else(run):
    ours = [last(run) / "8.orbax-checkpoint-tmp", last(run) / "8.orbax-checkpoint-tmp-1764000000"]
    foreign = [last(run) / "mine.orbax-checkpoint-tmp", last(run) / "6 (copy)", last(run) / "1.damaged"]
    for folder in (*ours, *foreign):
        (folder / "params").mkdir(parents=True)
        (folder / "params" / "data").write_text("x")
    (last(run) / "notes.txt").write_text("x")
    assert recover(epath.Path(run), ["first"], 2) == []
    assert names(last(run)) == sorted(["4", "6", "notes.txt", *(f.name for f in foreign)])


def test_one_process_at_a_time(tmp_path):
    """A lock of this process stops another one, and goes with the process however it ends."""
    hold = (
        "import pathlib, sys, time\nfrom nlm_jax.train.recovery import exclusive_lock\n"
        f"with exclusive_lock(pathlib.Path({str(tmp_path)!r}), True):\n"
        "    print('locked', flush=True)\n    time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match="another nlm train is running in it"), exclusive_lock(tmp_path, True):
            pass
        with exclusive_lock(tmp_path, False):
            pass
        other.kill()
        other.wait()
        with exclusive_lock(tmp_path, True):
            pass
