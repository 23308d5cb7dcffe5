"""Straight, interrupted, killed and moved to another mesh: one and the same run."""

import io
import itertools
import json
import re
import shutil
import signal

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import rich.console

from nlm_jax.convert.formats import open_checkpoint
from nlm_jax.convert.saved import finished, read_params
from nlm_jax.core.errors import UserError
from nlm_jax.train.loop import train


class Killed(Exception):
    """Stands for a machine that goes away."""


def at_step(n, act):
    """A console for `train` that calls `act` when the metrics of the n-th step of the process are printed."""
    steps = itertools.count(1)

    class Terminal(io.StringIO):
        def write(self, text):
            if re.match(r"stage\d \d+/\d+ loss", text) and next(steps) == n:
                act()
            return len(text)

    return rich.console.Console(file=Terminal(), width=200)


def interrupt():
    signal.raise_signal(signal.SIGINT)


def preempt():
    signal.raise_signal(signal.SIGTERM)


def die():
    raise Killed


def leaves(workdir, stage="stage2", kind="last"):
    folder = workdir / "checkpoints" / stage / kind
    return read_params(folder / str(finished(folder)[-1]))


def optimiser(workdir, stage="stage2"):
    folder = workdir / "checkpoints" / stage / "last"
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        path = folder / str(finished(folder)[-1]) / "opt"
        tree = reader.metadata(path).item_metadata.tree
        args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return jax.tree.leaves(reader.restore(path, args=ocp.args.PyTreeRestore(restore_args=args)))


def records(workdir, *names):
    """Records of metrics.jsonl with the named numbers alone: times differ, the rest must not."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [[r["step"], r["kind"], *(r.get(n) for n in names)] for r in lines]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return tmp_path_factory.mktemp("straight") / "run"


@pytest.fixture
def straight(config, done):
    """The run that nothing happened to."""
    if not done.exists():
        assert train(config(), done) == 0
    return done


NUMBERS = ("loss", "accuracy", "grad_norm", "lr", "exact")


def test_the_straight_run_did_something(straight):
    losses = records(straight, "loss")
    assert [r[0] for r in losses if r[1] == "train"] == [1, 2, 3, 4, 5, 6, 7]
    assert [r[0] for r in losses if r[1] == "valid"] == [2, 4, 6, 7]
    first, last = leaves(straight, "stage1"), leaves(straight, "stage2")
    assert set(first) == set(last)  # what stage 1 trained is part of stage 2's checkpoint
    still = [p for p in first if np.array_equal(first[p], last[p])]
    assert all(p.startswith("beats/") for p in still if "self_attn/key/bias" not in p and "query/bias" not in p)
    assert any(p.startswith("beats/") for p in still)
    assert not any("llama/layers/q_proj/kernel" in p for p in last)


def test_interrupted_twice_and_resumed(config, straight, tmp_path):
    """In the middle of stage 1, where a later step would have saved, and in the middle of stage 2.

    Ctrl-C is a person's; SIGTERM is a cluster's that wants the machine back, and no failure.
    """
    for step, act, status in ((3, interrupt, 130), (2, preempt, 0)):  # of each process: steps 3 and 5 of the run
        assert train(config(), tmp_path / "run", console=at_step(step, act)) == status
    assert train(config(), tmp_path / "run") == 0
    same_run(straight, tmp_path / "run")


def test_killed_between_checkpoints(config, straight, tmp_path):
    """At the end of stage 1, before its last checkpoint: step 3 is lost and computed again, and nothing shows it."""
    with pytest.raises(Killed):
        train(config(), tmp_path / "run", console=at_step(4, die))
    assert train(config(), tmp_path / "run") == 0
    same_run(straight, tmp_path / "run")


def same_run(straight, other):
    for kind in ("last", "best"):
        for stage in ("stage1", "stage2"):
            ours, theirs = leaves(other, stage, kind), leaves(straight, stage, kind)
            assert set(ours) == set(theirs)
            for path in ours:
                np.testing.assert_array_equal(ours[path], theirs[path], err_msg=f"{stage} {path}")
    for a, b in zip(optimiser(other), optimiser(straight), strict=True):
        np.testing.assert_array_equal(a, b)
    assert records(other, *NUMBERS) == records(straight, *NUMBERS)


def harmed(folder, name, harm):
    """Harms the largest file of an item of a checkpoint; the file."""
    file = max((p for p in (folder / name).rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink() if harm == "deleted" else file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("harms", "sentence"),
    [
        # The newest of the second stage, which goes on from the one before; its best one is computed again.
        ([("last/3", "opt", "flipped"), ("best/3", "params", "deleted")], ["resuming from {stage2}/last/2"]),
        # Both of the second stage: it starts again from the end of the first.
        ([("last/2", "meta", "flipped"), ("last/3", "params", "deleted")], ["resuming from {stage1}/last/4"] * 2),
        # A best one that is the last one too.
        ([("best/3", "params", "flipped")], ["restored from {stage2}/last/3"]),
    ],
)
def test_damaged_checkpoints(config, straight, tmp_path, capsys, harms, sentence):
    workdir = shutil.copytree(straight, tmp_path / "run")
    folders = {f"stage{n}": workdir / "checkpoints" / f"stage{n}" for n in (1, 2)}
    for place, item, harm in harms:
        file = harmed(folders["stage2"] / place, item, harm)
    if "best" in harms[-1][0]:
        with pytest.raises(
            UserError, match=rf"damaged checkpoint: {file.relative_to(folders['stage2'] / place)} .*again"
        ):
            open_checkpoint(workdir)
    assert train(config(), workdir) == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if "damaged checkpoint" in line]
    assert [line.rpartition(", ")[2] for line in printed] == [line.format(**folders) for line in sentence]
    same_run(straight, workdir)
    assert len(list(workdir.rglob("*.damaged"))) == len(sentence)


def test_checkpoints_without_their_run(config, straight, tmp_path):
    """What they stand on is not known then: they are neither gone on with nor written over."""
    workdir = shutil.copytree(straight, tmp_path / "run")
    (workdir / "run.json").unlink()
    before = sorted(workdir.rglob("*"))
    with pytest.raises(UserError, match=r"has checkpoints and no run\.json"):
        train(config(), workdir)
    assert [p for p in sorted(workdir.rglob("*")) if p.name != ".lock"] == [p for p in before if p.name != ".lock"]


def test_resumed_on_another_mesh(config, straight, tmp_path):
    """In the middle of stage 2: what stage 1 made and the optimiser's state move to the other mesh."""
    assert train(config(), tmp_path / "run", console=at_step(5, interrupt)) == 130
    assert len(records(tmp_path / "run")) < len(records(straight))
    assert train(config(mesh=(2, 2, 2)), tmp_path / "run") == 0
    for (*_, ours), (*_, theirs) in zip(records(tmp_path / "run", "loss"), records(straight, "loss"), strict=True):
        assert abs(ours - theirs) <= 1e-5


def test_a_finished_run_is_left_alone(config, straight):
    before = records(straight, *NUMBERS)
    assert train(config(), straight) == 0
    assert records(straight, *NUMBERS) == before


def test_data_prepared_again(config, corpus, straight):
    manifest = corpus / "manifest.json"
    text = manifest.read_text()
    try:
        manifest.write_text(text + " ")
        with pytest.raises(UserError, match="started with other data in"):
            train(config(), straight)
    finally:
        manifest.write_text(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 2e-3}, r"stages\.0\.optim\.peak_lr=0\.001, this config has 0\.002"),
        ({"steps": (4, 9)}, r"stages\.1\.steps=3, this config has 9"),
        ({"seed": 5}, "seed=0, this config has 5"),
        ({"model": {"base_dtype": "float32"}}, "base_dtype='bfloat16', this config has 'float32'"),
    ],
)
def test_another_config_in_the_same_workdir(config, straight, changes, message):
    with pytest.raises(UserError, match=message):
        train(config(**changes), straight)
