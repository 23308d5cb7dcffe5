"""Before a run resumes: left-overs of an interrupted process are cleared, damaged checkpoints are set aside.

The first process does it for all, before any of them opens a checkpoint, so that all see the same directories.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import IO

from etils import epath

from nlm_jax.convert.checksums import META, OPT, PARAMS, files, is_complete, write_checksums
from nlm_jax.convert.run_file import CHECKPOINTS
from nlm_jax.convert.saved import WHOLE, problem, saved_steps
from nlm_jax.core.errors import UserError
from nlm_jax.core.remote import is_remote
from nlm_jax.train.checkpoint import PARTIAL, is_partial

LOCK = ".lock"
DAMAGED = ".damaged"
KINDS = ("last", "best")


@contextlib.contextmanager
def exclusively(workdir: pathlib.Path, active: bool) -> Iterator[None]:
    """Keeps other processes of this machine, or of a file system with locks, from training in `workdir` meanwhile.

    Args:
      active: whether this process takes the lock; one of a job does.

    Raises:
      UserError: another process trains there.
    """
    with contextlib.ExitStack() as stack:
        if active:
            folder = workdir / CHECKPOINTS
            folder.mkdir(parents=True, exist_ok=True)
            lock(stack.enter_context(open(folder / LOCK, "a", encoding="utf-8")), workdir)
        yield


def lock(file: IO[str], workdir: pathlib.Path) -> None:
    """Locks an open file until it is closed; where a system or file system has no locks, nothing happens.

    The lock belongs to the process and not to its children: workers that outlive it do not hold it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise UserError(
            f"--workdir={workdir}: another nlm train is working in it; wait for its end, stop it, or give another "
            "--workdir"
        ) from error
    except OSError:  # a file system without locks
        return


@dataclasses.dataclass(frozen=True)
class Found:
    """The checkpoints of one kind of a stage, newest first: damaged ones until the first whole one."""

    whole: epath.Path | None
    damaged: tuple[tuple[epath.Path, str], ...]


def recover(root: epath.Path, stages: Sequence[str], keep: int) -> list[str]:
    """Clears and mends the checkpoints of a run; sentences about what was damaged.

    Args:
      root: the directory that holds `checkpoints`.
      stages: names of the run's stages, in order.
      keep: checkpoints of each kind that are retained.

    Raises:
      UserError: there are checkpoints, and none of them is whole. Nothing has been changed then.
    """
    folders = {stage: root / CHECKPOINTS / stage for stage in stages}
    if is_remote(root):
        abandoned = [d / kind / str(s) for d in folders.values() for kind in KINDS for s in saved_steps(d / kind)]
        for step in abandoned:
            if not is_complete(step):
                step.rmtree()
    bad: list[tuple[epath.Path, str]] = []
    stage = last = None
    for stage in reversed(stages):
        searched = newest_whole(folders[stage] / "last", WHOLE)
        bad += searched.damaged
        if last := searched.whole:
            break
    if last is None and bad:
        step, what = bad[0]
        raise UserError(
            f"{step}: damaged checkpoint: {what}; no whole one is left to go on from: restore it from a copy, or give "
            "another --workdir to start anew"
        )
    messages = []
    for step, what in bad:
        messages.append(f"{step}: damaged checkpoint: {what}; set aside as {set_aside(step)}, going on from {last}")
    if last is not None:
        messages += mend_best(folders[stage], last)
    # What was the best past the step where the run goes on will be again.
    for name in stages[stages.index(stage) if last else 0 :]:
        best, end = folders[name] / "best", int(last.name) if last and name == stage else 0
        for step in [step for step in saved_steps(best) if step > end]:
            (best / str(step)).rmtree()
    for folder in folders.values():
        for kind in KINDS:
            clear(folder / kind, keep)
    return messages


def any_saved(root: epath.Path) -> bool:
    """Whether any stage has saved anything."""
    stages = list((root / CHECKPOINTS).iterdir()) if (root / CHECKPOINTS).exists() else []
    return any(saved_steps(stage / kind) for stage in stages for kind in KINDS)


def newest_whole(directory: epath.Path, items: Sequence[str], up_to: int | None = None) -> Found:
    """Looks for the newest whole checkpoint among those of `directory`, of steps up to `up_to`."""
    damaged = []
    for step in reversed(saved_steps(directory)):
        if up_to is not None and step > up_to:
            continue
        what = problem(directory / str(step), items)
        if what is None:
            return Found(directory / str(step), tuple(damaged))
        damaged.append((directory / str(step), what))
    return Found(None, tuple(damaged))


def mend_best(folder: epath.Path, last: epath.Path) -> list[str]:
    """Sets the damaged best checkpoints of a stage aside, and makes the newest of them anew if that step is at hand."""
    searched, messages = newest_whole(folder / "best", (META, PARAMS), int(last.name)), []
    for number, (step, what) in enumerate(searched.damaged):
        same, sentence = folder / "last" / step.name, f"{step}: damaged checkpoint: {what}; "
        sentence += f"set aside as {set_aside(step)}"
        if number == 0 and same.exists() and problem(same) is None:
            copy_weights(same, step)
            return [f"{sentence}, made anew from {same}"]
        after = f"the best one is {searched.whole} now" if searched.whole else "there is no best one until the next"
        messages.append(f"{sentence}, {after}")
    return messages


def set_aside(step: epath.Path) -> str:
    """Renames a damaged checkpoint; its new name."""
    names = (step.name + DAMAGED + suffix for suffix in ("", *(f".{n}" for n in range(2, 1000))))
    name = next(name for name in names if not (step.parent / name).exists())
    step.rename(step.parent / name)
    return name


def copy_weights(source: epath.Path, target: epath.Path) -> None:
    """A checkpoint of weights only from one with an optimiser, whole or not at all."""
    part = target.parent / f"{target.name}{PARTIAL}"
    for name in files(source):
        if ("/" not in name and name.endswith(".json")) or name.split("/")[0] == OPT:
            continue
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).copy(part / name)
    write_checksums(part)
    part.rename(target)


def clear(directory: epath.Path, keep: int) -> None:
    """Deletes saves that were never completed, and what a kill left beyond the checkpoints that are retained."""
    for path in list(directory.iterdir()) if directory.exists() else ():
        if path.is_dir() and is_partial(path.name):
            path.rmtree()
    for step in [directory / str(step) for step in saved_steps(directory)[:-keep]]:
        if is_complete(step):  # a folder of somebody else has a number for a name at most
            step.rmtree()
