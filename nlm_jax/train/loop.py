"""Training, top to bottom: devices, weights, data, then stage after stage (`stage_run` has the loop over steps)."""

import contextlib
import dataclasses
import itertools
from pathlib import Path

import jax
from rich.console import Console

from nlm_jax.convert.run_file import RUN
from nlm_jax.core.compile_cache import keep_compiled
from nlm_jax.core.errors import UserError
from nlm_jax.core.logging import RunLog
from nlm_jax.core.remote import is_remote
from nlm_jax.data.eval_batches import EvalSet
from nlm_jax.data.pipeline import TrainSet, train_set
from nlm_jax.data.text import Tokenizer
from nlm_jax.generate.prompts import text_format
from nlm_jax.mesh.build import check_processes, describe, make_mesh
from nlm_jax.mesh.hosts import exit_on_error, run_on_first
from nlm_jax.mesh.join import initialize_distributed
from nlm_jax.mesh.rules import rules
from nlm_jax.train.config import TrainConfig, check
from nlm_jax.train.preemption import catch_signals
from nlm_jax.train.program import Program, make_program
from nlm_jax.train.recovery import any_saved, exclusive_lock, recover
from nlm_jax.train.remote_workdir import RemoteWorkdir, open_remote_workdir
from nlm_jax.train.run_dir import RunDir, create_run, open_run_dir
from nlm_jax.train.stage_run import StageRun
from nlm_jax.train.stage_start import open_checkpoints, start_stage
from nlm_jax.train.validate import validation
from nlm_jax.train.weights import open_weights

_runs = itertools.count()


def train(config: TrainConfig, workdir: str | Path, *, console: Console | None = None) -> int:
    """Trains every stage of `config` in `workdir`; resumes an earlier run of the same config from its last checkpoint.

    Example:
      from nlm_jax.data import DataConfig
      from nlm_jax.train import Stage, TrainConfig, train

      data = DataConfig(train=("data/own",), valid=("data/own",), seconds=2.0, rows=8)
      train(TrainConfig(stages=(Stage(steps=200, data=data),)), "runs/own")

    Args:
      config: model, data, stages and mesh; `train_config` builds one from nested dicts.
      workdir: directory of the run, or its URL in a bucket.
      console: for progress; the terminal by default.

    Returns:
      0: finished, or stopped by SIGTERM after saving a checkpoint (the scheduler restarts the job later);
      130: stopped by Ctrl-C after saving a checkpoint.

    Raises:
      UserError: a user-fixable error in the config, the data, the weights, the mesh or the run directory.
    """
    check(config)
    if config.mesh.distributed:
        initialize_distributed()
    if not is_remote(workdir):
        with exit_on_error():
            return run(config, Path(workdir).absolute(), console)
    remote = open_remote_workdir(str(workdir), jax.process_count())
    remote.mirror.pull()
    try:
        with exit_on_error():
            return run(config, remote.mirror.local, console, remote)
    finally:
        remote.upload()


def run(config: TrainConfig, workdir: Path, console: Console | None, remote: RemoteWorkdir | None = None) -> int:
    """`train` in a local directory, after the processes of the job have joined.

    Args:
      config: see `train`.
      workdir: directory of the run.
      console: see `train`.
      remote: the bucket that `workdir` mirrors, if it does.

    Returns:
      the exit status, see `train`.
    """
    # --- devices, weights, data ---------------------------------------------------------------------------------------
    mesh, sharding_rules = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor), rules(config.mesh.rules)
    check_processes(mesh)
    keep_compiled(config.compile_cache, mesh.devices.flat[0].platform)
    weights = open_weights(config)
    run_dir = open_run_dir(config, workdir, weights, remote)
    programs = [make_program(config, stage, weights.model, mesh, sharding_rules) for stage in config.stages]
    # The data of all stages is opened first, so that a mistake in the last one shows at once.
    data = [open_data(program, run_dir.tokenizer, config.eval.examples) for program in programs]
    log = RunLog(run_dir.path, tensorboard=config.log.tensorboard, active=jax.process_index() == 0, console=console)
    log.print(f"{run_dir.name}: {', '.join(s.name for s in config.stages)} on a mesh of {describe(mesh)}")

    # --- stages: each continues with the weights of the one before it and a fresh optimizer ---------------------------
    base, offset = None, 0
    with (
        catch_signals() as stop,
        contextlib.closing(log),
        jax.set_mesh(mesh),
        exit_on_error(),
        exclusive_lock(run_dir.path, jax.process_index() == 0),
    ):
        for message in run_on_first(f"nlm/recover/{next(_runs)}", lambda: recover_checkpoints(run_dir)):
            log.print(message)
        for index, program in enumerate(programs):
            with contextlib.closing(open_checkpoints(run_dir, program.stage)) as checkpoints, exit_on_error():
                start = start_stage(run_dir, index, program, checkpoints, base)
                if start is not None:
                    state, meta = start
                    if run_dir.run is None:
                        run_dir = dataclasses.replace(run_dir, run=create_run(run_dir, state))
                    meta = dataclasses.replace(meta, digests=run_dir.run.digests)
                    log.truncate_after(offset + meta.step)
                    stage_run = StageRun(run_dir, index, program, *data[index], state, meta, checkpoints, log, offset)
                    stage_run.run(stop)
                    base = run_dir.base_leaves(stage_run.state)
                    if stop.all_hosts_agree_between_stages():
                        log.print(
                            f"stopped at step {stage_run.meta.step} of {program.stage.name}, checkpoint saved; "
                            "rerun the same command to resume"
                        )
                        break
            offset += program.stage.steps
        else:
            log.print(f"finished; the model is in {run_dir.name}: nlm infer --model and nlm export read it")
    return stop.status


def open_data(program: Program, tokenizer: Tokenizer, examples: int) -> tuple[TrainSet, EvalSet | None]:
    """Training and validation data of a stage; at most `examples` examples are validated (0 = all)."""
    data, fmt = program.stage.data, text_format(program.model, program.stage.data.samples)
    return train_set(data, tokenizer, fmt), validation(data, tokenizer, fmt, examples)


def recover_checkpoints(run_dir: RunDir) -> list[str]:
    """Removes leftovers of an interrupted process and sets damaged checkpoints aside.

    Returns:
      messages about damaged checkpoints.

    Raises:
      UserError: no checkpoint is intact, or `run.json` is missing next to checkpoints.
    """
    config, root = run_dir.config, run_dir.checkpoint_root
    if run_dir.run is None and any_saved(root):
        raise UserError(
            f"{run_dir.name}: has checkpoints and no {RUN}, which names the base weights they need; restore that file "
            "from a copy, or give another --workdir"
        )
    messages = recover(root, [stage.name for stage in config.stages], config.checkpoint.keep)
    if run_dir.remote:
        run_dir.remote.upload()
    return messages
