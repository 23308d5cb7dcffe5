"""Before a run resumes: leftovers of an interrupted process are removed, damaged checkpoints are set aside.

The first process does it before any process opens a checkpoint, so that all see the same directories.
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
def exclusive_lock(workdir: pathlib.Path, active: bool) -> Iterator[None]:
    """Holds a lock on `workdir` against other processes of this machine, or of a file system with locks.

    Args:
      workdir: directory of the run.
      active: whether this process takes the lock; one per job does.

    Raises:
      UserError: another process is training there.
    """
    with contextlib.ExitStack() as stack:
        if active:
            folder = workdir / CHECKPOINTS
            folder.mkdir(parents=True, exist_ok=True)
            lock(stack.enter_context(open(folder / LOCK, "a", encoding="utf-8")), workdir)
        yield


def lock(file: IO[str], workdir: pathlib.Path) -> None:
    """Locks an open file until it is closed; does nothing if the system or file system has no locks.

    The lock belongs to the process and not to its children: workers that outlive it do not keep it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise UserError(
            f"--workdir={workdir}: another nlm train is running in it; wait until it ends, stop it, or give another "
            "--workdir"
        ) from error
    except OSError:  # a file system without locks
        return


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """Result of a search for an intact checkpoint, from the newest to the oldest."""

    intact: epath.Path | None
    """The newest intact one; None if there is none."""
    damaged: tuple[tuple[epath.Path, str], ...]
    """The damaged ones newer than it, newest first: (path, what is wrong)."""


def recover(root: epath.Path, stages: Sequence[str], keep: int) -> list[str]:
    """Repairs the checkpoints of a run so that it can resume.

    Args:
      root: the directory that holds `checkpoints`.
      stages: names of the run's stages, in order.
      keep: number of checkpoints of each kind to keep.

    Returns:
      a message about each damaged checkpoint.

    Raises:
      UserError: there are checkpoints, but none is intact; nothing is changed then.
    """
    folders = {stage: root / CHECKPOINTS / stage for stage in stages}
    if is_remote(root):
        abandoned = [d / kind / str(s) for d in folders.values() for kind in KINDS for s in saved_steps(d / kind)]
        for step in abandoned:
            if not is_complete(step):
                step.rmtree()
    damaged: list[tuple[epath.Path, str]] = []
    stage = last = None
    for stage in reversed(stages):
        searched = newest_intact(folders[stage] / "last", WHOLE)
        damaged += searched.damaged
        if last := searched.intact:
            break
    if last is None and damaged:
        step, fault = damaged[0]
        raise UserError(
            f"{step}: damaged checkpoint: {fault}; there is no intact one to resume from: restore it from a copy, or "
            "give another --workdir to start from scratch"
        )
    messages = []
    for step, fault in damaged:
        messages.append(f"{step}: damaged checkpoint: {fault}; set aside as {set_aside(step)}, resuming from {last}")
    if last is not None:
        messages += repair_best(folders[stage], last)
    # Best checkpoints of later steps than the one from which the run resumes will be computed again.
    for name in stages[stages.index(stage) if last else 0 :]:
        best, end = folders[name] / "best", int(last.name) if last and name == stage else 0
        for step in [step for step in saved_steps(best) if step > end]:
            (best / str(step)).rmtree()
    for folder in folders.values():
        for kind in KINDS:
            clear(folder / kind, keep)
    return messages


def any_saved(root: epath.Path) -> bool:
    """Whether any stage has a checkpoint."""
    stages = list((root / CHECKPOINTS).iterdir()) if (root / CHECKPOINTS).exists() else []
    return any(saved_steps(stage / kind) for stage in stages for kind in KINDS)


def newest_intact(directory: epath.Path, items: Sequence[str], up_to: int | None = None) -> SearchResult:
    """Searches for the newest intact checkpoint.

    Args:
      directory: of the checkpoints of one kind.
      items: items that an intact checkpoint has.
      up_to: largest step to consider; None = all.
    """
    damaged = []
    for step in reversed(saved_steps(directory)):
        if up_to is not None and step > up_to:
            continue
        fault = problem(directory / str(step), items)
        if fault is None:
            return SearchResult(directory / str(step), tuple(damaged))
        damaged.append((directory / str(step), fault))
    return SearchResult(None, tuple(damaged))


def repair_best(folder: epath.Path, last: epath.Path) -> list[str]:
    """Sets damaged best checkpoints aside; restores the newest from the "last" checkpoint of its step, if there is one.

    Args:
      folder: of the stage's checkpoints.
      last: the checkpoint from which the run resumes.

    Returns:
      a message about each damaged checkpoint.
    """
    searched, messages = newest_intact(folder / "best", (META, PARAMS), int(last.name)), []
    for number, (step, fault) in enumerate(searched.damaged):
        same, message = folder / "last" / step.name, f"{step}: damaged checkpoint: {fault}; "
        message += f"set aside as {set_aside(step)}"
        if number == 0 and same.exists() and problem(same) is None:
            copy_weights(same, step)
            return [f"{message}, restored from {same}"]
        now = searched.intact or "none until the next validation"
        messages.append(f"{message}, the best one is now {now}")
    return messages


def set_aside(step: epath.Path) -> str:
    """Renames a damaged checkpoint and returns its new name."""
    names = (step.name + DAMAGED + suffix for suffix in ("", *(f".{n}" for n in range(2, 1000))))
    name = next(name for name in names if not (step.parent / name).exists())
    step.rename(step.parent / name)
    return name


def copy_weights(source: epath.Path, target: epath.Path) -> None:
    """Copies a checkpoint without its optimizer, atomically."""
    part = target.parent / f"{target.name}{PARTIAL}"
    for name in files(source):
        if ("/" not in name and name.endswith(".json")) or name.split("/")[0] == OPT:
            continue
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).copy(part / name)
    write_checksums(part)
    part.rename(target)


def clear(directory: epath.Path, keep: int) -> None:
    """Deletes unfinished saves, and older checkpoints than the `keep` newest, which a killed process may have left."""
    for path in list(directory.iterdir()) if directory.exists() else ():
        if path.is_dir() and is_partial(path.name):
            path.rmtree()
    for step in [directory / str(step) for step in saved_steps(directory)[:-keep]]:
        if is_complete(step):  # not a folder of another program with a number as its name
            step.rmtree()
