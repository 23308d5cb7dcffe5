"""Stages in a row: which one a run is in, and what each starts from.

A stage starts from the weights the one before it ended with (its last or its best), with a fresh optimiser and
schedule, as the reference's stage 2 starts from stage 1. Everything is read from disk, so a run that is interrupted
between two stages goes on exactly as one that is not.
"""

import dataclasses

import jax
import orbax.checkpoint as ocp

from nlm_jax.train import checkpoint
from nlm_jax.train.checkpoint import Meta
from nlm_jax.train.config import Stage
from nlm_jax.train.program import Program
from nlm_jax.train.run_dir import Session, stand_on
from nlm_jax.train.state import TrainState


@dataclasses.dataclass(frozen=True)
class Saved:
    """The two kinds of checkpoints of a stage."""

    last: ocp.CheckpointManager
    best: ocp.CheckpointManager

    def wait(self) -> None:
        """Until everything is on disk."""
        self.last.wait_until_finished()
        self.best.wait_until_finished()

    def close(self) -> None:
        self.last.close()
        self.best.close()


def open_saved(session: Session, stage: Stage) -> Saved:
    """The checkpoints of a stage, made where there are none yet."""
    make = checkpoint.manager
    return Saved(
        make(session.checkpoints, stage.name, "last", session.config.checkpoint.keep),
        make(session.checkpoints, stage.name, "best", session.config.checkpoint.keep),
    )


def enter(
    session: Session, index: int, program: Program, saved: Saved, base: dict[str, jax.Array] | None
) -> tuple[TrainState, Meta] | None:
    """The state in which stage number `index` goes on or starts, or None where it is already finished.

    Args:
      base: what no stage trains, if an earlier stage of this process has it loaded.
    """
    stage, step = program.stage, saved.last.latest_step()
    if step == stage.steps:
        return None
    fresh = Meta(stage.name, 0, 0, None, dataclasses.asdict(session.config), {})
    if base is None:
        base = stand_on(session, program, everything=index == 0 and step is None)
    if step is not None:
        meta, best = checkpoint.read_meta(saved.last, step), saved.best.latest_step()
        # One that was damaged is gone: what is the best so far is what the best one at hand says.
        meta = dataclasses.replace(meta, best=None if best is None else checkpoint.read_meta(saved.best, best).best)
        params = checkpoint.restore(saved.last, step, "params", session.moved(program.params(), index))
        opt = checkpoint.restore(saved.last, step, "opt", checkpoint.optimiser(program.targets()))
        return program.start(base | params, opt), meta
    if index == 0:
        return program.start(base), fresh
    before = open_saved(session, session.config.stages[index - 1])
    kind = before.best if stage.start == "best" and before.best.latest_step() is not None else before.last
    params = checkpoint.restore(kind, kind.latest_step(), "params", session.moved(program.params(), index - 1))
    before.close()
    return program.start(base | params), fresh
