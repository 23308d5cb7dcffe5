"""Training, top to bottom: devices, weights, then stage after stage of load, step, log, validate, save."""

import contextlib
import dataclasses
import itertools
import json
import time
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from nlm_jax.convert.run_file import RUN
from nlm_jax.core.compile_cache import keep_compiled
from nlm_jax.core.errors import UserError
from nlm_jax.core.logging import RunLog
from nlm_jax.core.remote import is_remote
from nlm_jax.core.tree import named_leaves
from nlm_jax.data import mixture_report
from nlm_jax.data.eval_batches import Evaluation
from nlm_jax.data.pipeline import TrainSet, train_set
from nlm_jax.data.text import Tokenizer
from nlm_jax.generate.prompts import text_format
from nlm_jax.mesh.build import check_processes, describe, make_mesh
from nlm_jax.mesh.hosts import exit_on_error, run_on_first
from nlm_jax.mesh.join import initialize_distributed
from nlm_jax.mesh.rules import rules
from nlm_jax.mesh.sharding import place_batch
from nlm_jax.train import checkpoint, param_table
from nlm_jax.train.checkpoint import Meta
from nlm_jax.train.config import TrainConfig, check
from nlm_jax.train.preemption import Stop, stoppable
from nlm_jax.train.program import Program, make_program
from nlm_jax.train.recovery import any_saved, exclusively, recover
from nlm_jax.train.remote_workdir import Bucket, bucket
from nlm_jax.train.run_dir import Session, begin, open_session
from nlm_jax.train.stage_start import Saved, enter, open_saved
from nlm_jax.train.state import TrainState
from nlm_jax.train.throughput import Meter
from nlm_jax.train.validate import answers, validate, validation
from nlm_jax.train.weights import open_weights, params_of

ANSWERS = "answers.jsonl"
_runs = itertools.count()


def train(config: TrainConfig, workdir: str | Path, *, console: Console | None = None) -> int:
    """Trains every stage of `config` in `workdir`; resumes where an earlier run of the same config stopped.

    Example:
      from nlm_jax.data import DataConfig
      from nlm_jax.train import Stage, TrainConfig, train

      data = DataConfig(train=("data/mine",), valid=("data/mine",), seconds=2.0, rows=8)
      train(TrainConfig(stages=(Stage(steps=200, data=data),)), "runs/mine")

    Args:
      config: what to train, on what, and how; `train_config` makes one of nested dicts.
      workdir: directory of the run, which may be a bucket's URL.
      console: where progress is shown; the terminal by default.

    Returns:
      0: finished, or stopped by SIGTERM and saved, to be started again where a cluster wants the machine back;
      130: stopped by Ctrl-C and saved.

    Raises:
      UserError: anything about the config, the data, the weights, the mesh or the run that the user can mend.
    """
    check(config)
    if config.mesh.distributed:
        initialize_distributed()
    if not is_remote(workdir):
        with exit_on_error():
            return run(config, Path(workdir).absolute(), console)
    place = bucket(str(workdir), jax.process_count())
    place.mirror.pull()
    try:
        with exit_on_error():
            return run(config, place.mirror.local, console, place)
    finally:
        place.deliver()


def run(config: TrainConfig, workdir: Path, console: Console | None, place: Bucket | None = None) -> int:
    """What `train` does once the processes have found each other.

    Args:
      place: the bucket that `workdir` mirrors, if it does.
    """
    # --- devices and weights ------------------------------------------------------------------------------------------
    mesh, placement = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor), rules(config.mesh.rules)
    check_processes(mesh)
    keep_compiled(config.compile_cache, mesh.devices.flat[0].platform)
    weights = open_weights(config)
    session = open_session(config, workdir, weights, place)
    programs = [make_program(config, stage, weights.model, mesh, placement) for stage in config.stages]
    sets = [open_sets(program, session.tokenizer, config.eval.examples) for program in programs]
    log = RunLog(session.workdir, tensorboard=config.log.tensorboard, active=jax.process_index() == 0, console=console)
    log.print(f"{session.where}: {', '.join(s.name for s in config.stages)} on a mesh of {describe(mesh)}")

    # --- stages: each goes on where the one before it ended, with a fresh optimiser -----------------------------------
    base, offset = None, 0
    with (
        stoppable() as stop,
        contextlib.closing(log),
        jax.set_mesh(mesh),
        exit_on_error(),
        exclusively(session.workdir, jax.process_index() == 0),
    ):
        for sentence in run_on_first(f"nlm/recover/{next(_runs)}", lambda: recovered(session)):
            log.print(sentence)
        for index, program in enumerate(programs):
            with contextlib.closing(open_saved(session, program.stage)) as saved, exit_on_error():
                entered = enter(session, index, program, saved, base)
                if entered is not None:
                    state, meta = entered
                    if session.run is None:
                        session = dataclasses.replace(session, run=begin(session, state))
                    log.truncate_after(offset + meta.step)
                    state, meta = run_stage(session, index, program, sets[index], state, meta, saved, log, offset, stop)
                    base = session.base(state)
                    if stop.agreed_between():
                        log.print(
                            f"stopped at step {meta.step} of {program.stage.name}, saved; the same command goes on"
                        )
                        break
            offset += program.stage.steps
        else:
            log.print(f"finished; the model is in {session.where}: nlm infer --model and nlm export take it as it is")
    return stop.status


def recovered(session: Session) -> list[str]:
    """Clears left-overs of an interrupted process and sets damaged checkpoints aside; returns messages about it."""
    config, root = session.config, session.checkpoints
    if session.run is None and any_saved(root):
        raise UserError(
            f"{session.where}: has checkpoints and no {RUN}, which says what they stand on; restore that file from a "
            "copy, or give another --workdir"
        )
    said = recover(root, [stage.name for stage in config.stages], config.checkpoint.keep)
    if session.place:
        session.place.deliver()
    return said


def run_stage(
    session: Session,
    index: int,
    program: Program,
    sets: tuple[TrainSet, Evaluation | None],
    state: TrainState,
    meta: Meta,
    saved: Saved,
    log: RunLog,
    offset: int,
    stop: Stop,
) -> tuple[TrainState, Meta]:
    """Runs stage number `index` from `meta.step` to its end, or until `stop`; what it returns is saved.

    Args:
      offset: steps of the stages before it, for the step count of logs.
    """
    # --- data, and what there is --------------------------------------------------------------------------------------
    config, stage, (training, held_out) = session.config, program.stage, sets
    stream = training.batches(meta.position, jax.process_index(), jax.process_count())
    meta = dataclasses.replace(meta, digests=session.run.digests)
    log.table(param_table.table(program), param_table.text(program), f"parameters_{stage.name}.txt")
    mixed = training.exposure(stage.steps)
    title = f"Epochs of {stage.name}, {stage.steps} steps of {stage.data.rows} rows"
    log.table(mixture_report.table(mixed, title), mixture_report.text(mixed), f"mixture_{stage.name}.txt")
    log.replace(f"mixture_{stage.name}.jsonl", mixture_report.lines(mixed))
    log.print(f"{stage.name}: step {meta.step} of {stage.steps}, {stage.data.rows} rows a step")
    meter, where = Meter(program), ""

    with log.progress(stage.name, meta.step, stage.steps), contextlib.closing(stream):
        while meta.step < stage.steps and not stop.agreed(offset + meta.step):
            # --- one step: what is random follows from (seed, step), the batch from the position ----------------------
            asked = time.perf_counter()
            batch = place_batch(next(stream), program.mesh)
            waited = time.perf_counter() - asked
            meter.room()
            state, metrics = program.step(state, batch)
            meter.add(metrics, waited)
            meta = dataclasses.replace(meta, step=meta.step + 1, position=stream.position)
            log.advance(meta.step)
            where, end = f"{stage.name} step {meta.step}", meta.step == stage.steps

            # --- log: numbers are fetched here and not every step -----------------------------------------------------
            if end or meta.step % config.log.every == 0:
                numbers = meter.read(where)
                log.write(offset + meta.step, "train", {"stage": stage.name, **numbers})
                log.status(stage.name, meta.step, stage.steps, line({"mfu": "n/a", **numbers}))

            # --- validate: the best weights are kept by validation loss -----------------------------------------------
            if held_out and config.eval.every and (end or meta.step % config.eval.every == 0):
                meter.room()
                scores = validate(program, state, held_out)
                log.write(offset + meta.step, "valid", {"stage": stage.name, **scores})
                log.print(f"{where}: validation {line(scores)}")
                show_answers(session, program, state, held_out, log, offset + meta.step)
                if "loss" in scores and (meta.best is None or scores["loss"] < meta.best):
                    meta = dataclasses.replace(meta, best=scores["loss"])
                    checkpoint.save(saved.best, session.moved(params_of(state), index), meta)
                meter.pause()

            # --- save: weights, optimiser and the place in the data, before the data goes on --------------------------
            if end or meta.step % config.checkpoint.every == 0:
                save(session, index, state, meta, saved, meter)
    if 0 < meta.step < stage.steps:
        save(session, index, state, meta, saved, meter)
    saved.wait()
    if stream.retried:
        kinds = ", ".join(f"{name} {count} times" for name, count in stream.retried.items())
        log.print(f"{stage.name}: reads from buckets failed and were tried again: {kinds}")
    if stream.damaged:
        log.print(f"{stage.name}: {len(stream.damaged)} damaged examples were replaced by others; see the warnings")
    return state, meta


def open_sets(program: Program, tokenizer: Tokenizer, examples: int) -> tuple[TrainSet, Evaluation | None]:
    """Training and validation data of a stage; all stages' are opened first, so that a mistake shows at once."""
    data, fmt = program.stage.data, text_format(program.model, program.stage.data.samples)
    return train_set(data, tokenizer, fmt), validation(data, tokenizer, fmt, examples)


def save(session: Session, index: int, state: TrainState, meta: Meta, saved: Saved, meter: Meter) -> None:
    """Saves all that is needed to go on. A loss that is not finite is an error first."""
    meter.check(f"{meta.stage} step {meta.step}")
    opt = checkpoint.optimiser(named_leaves(state))
    checkpoint.save(saved.last, session.moved(params_of(state), index), meta, opt)
    if session.place:
        saved.wait()
        session.place.deliver()
    meter.pause()


def show_answers(session, program: Program, state: TrainState, held_out, log: RunLog, step: int) -> None:
    """A few greedy answers per task, to the terminal, TensorBoard and `answers.jsonl`."""
    setup = session.config.eval
    if not setup.answers:
        return
    made = answers(program, state, held_out, session.tokenizer, setup.answers, setup.max_new_tokens)
    log.append_lines(ANSWERS, [json.dumps({"step": step, **one}, ensure_ascii=False) for one in made])
    log.text(step, "answers", "\n\n".join(f"{a['task']}: {a['expected']!r} <- {a['answer']!r}" for a in made))
    seen: set[str] = set()
    for one in made:
        if one["task"] not in seen:
            log.print(f"  {one['task']}: expected {one['expected']!r}, answered {one['answer']!r}")
        seen.add(one["task"])


def line(numbers: dict[str, Any]) -> str:
    """The numbers people watch, in one line."""
    names = {
        "loss": "loss {:.4f}",
        "accuracy": "accuracy {:.1%}",
        "exact": "exact {:.1%}",
        "clips_per_second": "{:.1f} clips/s",
        "tokens_per_second": "{:.0f} tokens/s",
        "mfu": "MFU {:.1%}",
    }
    shown = [(text, numbers[name]) for name, text in names.items() if name in numbers]
    return ", ".join(text.replace("{:.1%}", "{}").format(v) if v == "n/a" else text.format(v) for text, v in shown)
