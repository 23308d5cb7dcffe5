"""One stage of training: the loop of step, log, validate and save."""

import contextlib
import dataclasses
import functools
import json
import time
from typing import Any

import jax

from nlm_jax.core.logging import RunLog
from nlm_jax.core.tree import named_leaves
from nlm_jax.data import mixture_report
from nlm_jax.data.batches import BatchIterator
from nlm_jax.data.eval_batches import EvalSet
from nlm_jax.data.pipeline import TrainSet
from nlm_jax.mesh.sharding import place_batch
from nlm_jax.train import checkpoint, param_table
from nlm_jax.train.checkpoint import Meta
from nlm_jax.train.config import Stage, TrainConfig
from nlm_jax.train.preemption import Stop
from nlm_jax.train.program import Program
from nlm_jax.train.run_dir import RunDir
from nlm_jax.train.stage_start import StageCheckpoints
from nlm_jax.train.state import TrainState
from nlm_jax.train.throughput import Throughput
from nlm_jax.train.validate import answers, validate
from nlm_jax.train.weights import params_of

ANSWERS = "answers.jsonl"


@dataclasses.dataclass
class StageRun:
    """A stage in progress. `run` trains it; `state` and `meta` are then those of its last saved step."""

    run_dir: RunDir
    index: int
    """Number of the stage in the config."""
    program: Program
    training: TrainSet
    validation: EvalSet | None
    state: TrainState
    meta: Meta
    """Steps done, position in the data and best validation loss, as the next checkpoint will have them."""
    checkpoints: StageCheckpoints
    log: RunLog
    offset: int
    """Steps of the stages before this one, which the step numbers of the logs include."""

    @property
    def config(self) -> TrainConfig:
        """Config of the run."""
        return self.run_dir.config

    @property
    def stage(self) -> Stage:
        """Config of the stage."""
        return self.program.stage

    @property
    def run_step(self) -> int:
        """Steps done in all stages of the run."""
        return self.offset + self.meta.step

    @functools.cached_property
    def throughput(self) -> Throughput:
        """Metrics of the steps since the last log line."""
        return Throughput(self.program)

    def run(self, stop: Stop) -> None:
        """Trains from `meta.step` to the end of the stage, or until `stop`, and saves the last step.

        Raises:
          UserError: the loss is no longer finite.
        """
        self.log_start()
        stream = self.training.batches(self.meta.position, jax.process_index(), jax.process_count())
        with self.log.progress(self.stage.name, self.meta.step, self.stage.steps), contextlib.closing(stream):
            while self.meta.step < self.stage.steps and not stop.all_hosts_agree(self.run_step):
                self.step(stream)
                if self.is_due(self.config.log.every):
                    self.log_metrics()
                if self.validation and self.is_due(self.config.eval.every):
                    self.evaluate()
                if self.is_due(self.config.checkpoint.every):
                    self.save()
        if 0 < self.meta.step < self.stage.steps:  # stopped between two checkpoints
            self.save()
        self.checkpoints.wait()
        self.log_data_errors(stream)

    def is_due(self, every: int) -> bool:
        """Whether something done each `every` steps (0 = never) is due: after the last step it always is."""
        return every > 0 and (self.meta.step == self.stage.steps or self.meta.step % every == 0)

    def step(self, stream: BatchIterator) -> None:
        """Starts one step. What is random in it follows from (seed, step), its batch from the position."""
        started = time.perf_counter()
        batch = place_batch(next(stream), self.program.mesh)
        waited = time.perf_counter() - started
        self.throughput.throttle()
        self.state, metrics = self.program.step(self.state, batch)
        self.throughput.add(metrics, waited)
        self.meta = dataclasses.replace(self.meta, step=self.meta.step + 1, position=stream.position)
        self.log.advance(self.meta.step)

    def evaluate(self) -> None:
        """Validates and logs the scores and some answers; saves the weights if their loss is the lowest so far."""
        self.throughput.throttle()
        scores = validate(self.program, self.state, self.validation)
        self.log.write(self.run_step, "valid", {"stage": self.stage.name, **scores})
        self.log.print(f"{self.stage.name} step {self.meta.step}: validation {summary_line(scores)}")
        if self.config.eval.answers:
            self.log_answers()
        if "loss" in scores and (self.meta.best is None or scores["loss"] < self.meta.best):
            self.meta = dataclasses.replace(self.meta, best=scores["loss"])
            checkpoint.save(self.checkpoints.best, self.trained_leaves(), self.meta)
        self.throughput.restart_clock()

    def save(self) -> None:
        """Saves weights, optimizer and position in the data, before the next batch is drawn.

        Raises:
          UserError: the loss is not finite; nothing is saved.
        """
        self.throughput.check_finite(f"{self.stage.name} step {self.meta.step}")
        optimizer = checkpoint.optimizer_leaves(named_leaves(self.state))
        checkpoint.save(self.checkpoints.last, self.trained_leaves(), self.meta, optimizer)
        if self.run_dir.remote:
            self.checkpoints.wait()
            self.run_dir.remote.upload()
        self.throughput.restart_clock()

    def trained_leaves(self) -> dict[str, jax.Array]:
        """Path -> leaf of all that a checkpoint of this stage must hold."""
        return self.run_dir.trained_leaves(params_of(self.state), self.index)

    # --- logs ---------------------------------------------------------------------------------------------------------

    def log_start(self) -> None:
        """Writes the tables of parameters and of the data mixture, and where the stage starts or resumes."""
        name, rows = self.stage.name, self.stage.data.rows
        self.log.table(param_table.table(self.program), param_table.text(self.program), f"parameters_{name}.txt")
        mixture = self.training.exposure(self.stage.steps)
        title = f"Epochs of {name}, {self.stage.steps} steps of {rows} rows"
        self.log.table(mixture_report.table(mixture, title), mixture_report.text(mixture), f"mixture_{name}.txt")
        self.log.replace(f"mixture_{name}.jsonl", mixture_report.lines(mixture))
        self.log.print(f"{name}: step {self.meta.step} of {self.stage.steps}, {rows} rows per step")

    def log_metrics(self) -> None:
        """Writes loss and rates since the last call; this waits for the devices, so it is not done at each step.

        Raises:
          UserError: a loss is not finite.
        """
        metrics = self.throughput.read(f"{self.stage.name} step {self.meta.step}")
        self.log.write(self.run_step, "train", {"stage": self.stage.name, **metrics})
        self.log.status(self.stage.name, self.meta.step, self.stage.steps, summary_line({"mfu": "n/a", **metrics}))

    def log_answers(self) -> None:
        """Writes a few greedy answers per task to the console, to TensorBoard and to `answers.jsonl`."""
        setup = self.config.eval
        tokenizer = self.run_dir.tokenizer
        rows = answers(self.program, self.state, self.validation, tokenizer, setup.answers, setup.max_new_tokens)
        lines = [json.dumps({"step": self.run_step, **row}, ensure_ascii=False) for row in rows]
        self.log.append_lines(ANSWERS, lines)
        text = "\n\n".join(f"{row['task']}: {row['expected']!r} <- {row['answer']!r}" for row in rows)
        self.log.text(self.run_step, "answers", text)
        for row in {row["task"]: row for row in reversed(rows)}.values():  # the first of each task
            self.log.print(f"  {row['task']}: expected {row['expected']!r}, answered {row['answer']!r}")

    def log_data_errors(self, stream: BatchIterator) -> None:
        """Prints how many reads were retried and how many examples were corrupt."""
        if stream.retried:
            kinds = ", ".join(f"{name} {count} times" for name, count in stream.retried.items())
            self.log.print(f"{self.stage.name}: reads from buckets were retried after errors: {kinds}")
        if stream.damaged:
            self.log.print(
                f"{self.stage.name}: {len(stream.damaged)} corrupt examples were skipped and replaced; see the warnings"
            )


def summary_line(metrics: dict[str, Any]) -> str:
    """The main metrics in one line, those that are missing left out."""
    formats = {
        "loss": "loss {:.4f}",
        "accuracy": "accuracy {:.1%}",
        "exact": "exact {:.1%}",
        "clips_per_second": "{:.1f} clips/s",
        "tokens_per_second": "{:.0f} tokens/s",
        "mfu": "MFU {:.1%}",
    }
    shown = [(text, metrics[name]) for name, text in formats.items() if name in metrics]
    return ", ".join(text.replace("{:.1%}", "{}").format(v) if v == "n/a" else text.format(v) for text, v in shown)
