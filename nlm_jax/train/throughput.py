"""Loss and speed between two log lines, from metrics that stay on the devices until they are logged."""

import time
from typing import Any

import jax
import numpy as np

from nlm_jax.core.errors import UserError
from nlm_jax.train.flops import forward_flops, peak_flops
from nlm_jax.train.program import Program

IN_FLIGHT = 2
"""Steps in flight at once; 1 on CPUs, whose collectives must not overlap. More would only keep batches in memory."""


class Throughput:
    """Collects the metrics of steps and summarizes them on demand."""

    def __init__(self, program: Program):
        self._program, self._pending = program, []
        data, model = program.stage.data, program.model
        self._vectors = model.qformer.vectors(data.samples)
        self._samples = data.samples
        self._peak = peak_flops(program.mesh.devices.flat)
        self._depth = 1 if program.mesh.devices.flat[0].platform == "cpu" else IN_FLIGHT
        self._since, self._first, self._waited = None, 0, 0.0

    def throttle(self) -> None:
        """Blocks until fewer than the maximum number of steps are in flight."""
        if len(self._pending) >= self._depth:
            jax.block_until_ready(self._pending[-self._depth])

    def add(self, metrics: dict[str, jax.Array], waited: float) -> None:
        """Adds the metrics of a step that has been started.

        Args:
          metrics: what `Program.step` returned next to the state.
          waited: seconds for which the loop waited for the batch.
        """
        self._pending.append(metrics)
        self._waited += waited
        if self._since is None:  # the first step compiles: the clock starts after it
            jax.block_until_ready(metrics)
            self._since, self._first, self._waited = time.perf_counter(), 1, 0.0

    def check_finite(self, where: str) -> None:
        """Checks the loss of the newest step.

        Args:
          where: stage and step, the start of the message.

        Raises:
          UserError: the loss is not finite.
        """
        if self._pending and not np.isfinite(jax.device_get(self._pending[-1]["loss_sum"])):
            raise UserError(
                f"{where}: the loss is no longer finite, this step was not saved; lower optim.peak_lr or check the "
                "data, and rerun the command to resume from the last checkpoint"
            )

    def read(self, where: str) -> dict[str, Any]:
        """Loss and accuracy per answer token, gradient norm, rates and MFU since the last call.

        Args:
          where: stage and step, the start of an error message.

        Raises:
          UserError: a loss that is not finite.
        """
        self.check_finite(where)
        steps = jax.device_get(self._pending)
        now, timed = time.perf_counter(), steps[self._first :]
        elapsed = max(now - self._since, 1e-9)
        total = {k: float(sum(float(m[k]) for m in steps)) for k in ("loss_sum", "weight", "correct")}
        tokens, answers = (sum(float(m[k]) for m in timed) for k in ("tokens", "weight"))
        clips = sum(float(m["vectors"]) for m in timed) / self._vectors
        metrics = {
            "loss": total["loss_sum"] / max(total["weight"], 1.0),
            "accuracy": total["correct"] / max(total["weight"], 1.0),
            "grad_norm": float(np.mean([m["grad_norm"] for m in steps])),
            "lr": float(steps[-1]["lr"]),
        }
        if timed:
            metrics |= {
                "steps_per_second": len(timed) / elapsed,
                "clips_per_second": clips / elapsed,
                "tokens_per_second": tokens / elapsed,
                "data_wait": self._waited / elapsed,
            }
            if self._peak:
                metrics["mfu"] = self.flops(clips, tokens, answers) / elapsed / self._peak
        self._pending, self._since, self._first, self._waited = [], now, 0, 0.0
        return metrics

    def flops(self, clips: float, tokens: float, answers: float) -> float:
        """Model FLOPs of forward and backward for this many clips, sequence tokens and answer tokens."""
        context = round(tokens / max(clips, 1.0))
        forward = forward_flops(self._program.model, self._samples, context)
        return forward.training(self._program.stage.train, clips, tokens, answers)

    def restart_clock(self) -> None:
        """Restarts the clock after validation or saving, whose time is not part of the rates."""
        self._since = time.perf_counter() if self._since is not None else None
