"""Start of each stage: its own newest checkpoint, or the weights of the stage before it.

A new stage starts from the weights with which the one before it ended (its last or its best), with a fresh optimizer
and schedule, as the reference's stage 2 starts from stage 1. Everything is read from disk, so a run that is interrupted
between two stages continues exactly as one that is not.
"""

import dataclasses

import jax
import orbax.checkpoint as ocp

from nlm_jax.train import checkpoint
from nlm_jax.train.checkpoint import Meta
from nlm_jax.train.config import Stage
from nlm_jax.train.program import Program
from nlm_jax.train.run_dir import RunDir, load_base
from nlm_jax.train.state import TrainState


@dataclasses.dataclass(frozen=True)
class StageCheckpoints:
    """The two kinds of checkpoints of a stage."""

    last: ocp.CheckpointManager
    best: ocp.CheckpointManager

    def wait(self) -> None:
        """Blocks until everything is on disk."""
        self.last.wait_until_finished()
        self.best.wait_until_finished()

    def close(self) -> None:
        """Closes both managers."""
        self.last.close()
        self.best.close()


def open_checkpoints(run_dir: RunDir, stage: Stage) -> StageCheckpoints:
    """The checkpoints of a stage; their folders are created if there are none yet."""
    keep = run_dir.config.checkpoint.keep
    last, best = (checkpoint.manager(run_dir.checkpoint_root, stage.name, kind, keep) for kind in ("last", "best"))
    return StageCheckpoints(last, best)


def start_stage(
    run_dir: RunDir,
    index: int,
    program: Program,
    checkpoints: StageCheckpoints,
    base: dict[str, jax.Array] | None,
) -> tuple[TrainState, Meta] | None:
    """State and progress with which a stage starts or resumes.

    Args:
      run_dir: the run.
      index: number of the stage in the config.
      program: the compiled stage.
      checkpoints: of the stage.
      base: path -> leaf of what no stage trains, if an earlier stage has loaded it in this process.

    Returns:
      the state and its meta data; None if the stage is finished.
    """
    stage, step = program.stage, checkpoints.last.latest_step()
    if step == stage.steps:
        return None
    new = Meta(stage.name, 0, 0, None, dataclasses.asdict(run_dir.config), {})
    if base is None:
        base = load_base(run_dir, program, whole_model=index == 0 and step is None)
    if step is not None:
        meta, best = checkpoint.read_meta(checkpoints.last, step), checkpoints.best.latest_step()
        # A damaged best checkpoint was set aside: the lowest loss is then that of the best one left.
        best_loss = None if best is None else checkpoint.read_meta(checkpoints.best, best).best
        params = checkpoint.restore(checkpoints.last, step, "params", run_dir.trained_leaves(program.params(), index))
        opt = checkpoint.restore(checkpoints.last, step, "opt", checkpoint.optimizer_leaves(program.targets()))
        return program.start(base | params, opt), dataclasses.replace(meta, best=best_loss)
    if index == 0:
        return program.start(base), new
    before = open_checkpoints(run_dir, run_dir.config.stages[index - 1])
    source = before.best if stage.start == "best" and before.best.latest_step() is not None else before.last
    targets = run_dir.trained_leaves(program.params(), index - 1)
    params = checkpoint.restore(source, source.latest_step(), "params", targets)
    before.close()
    return program.start(base | params), new
