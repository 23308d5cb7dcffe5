"""Speed and loss between two log lines, from metrics that stay on the devices until they are wanted."""

import time
from typing import Any

import jax
import numpy as np

from nlm_jax.core.errors import UserError
from nlm_jax.train.flops import forward_flops, peak_flops
from nlm_jax.train.program import Program

IN_FLIGHT = 2
"""Steps that may be under way at once; 1 on CPUs, whose collectives must not overlap. More would only hold batches."""


class Meter:
    """Collects the metrics of steps and sums them up on demand."""

    def __init__(self, program: Program):
        self._program, self._pending = program, []
        data, model = program.stage.data, program.model
        self._vectors = model.qformer.vectors(data.samples)
        self._samples = data.samples
        self._peak = peak_flops(program.mesh.devices.flat)
        self._depth = 1 if program.mesh.devices.flat[0].platform == "cpu" else IN_FLIGHT
        self._since, self._waited = None, 0.0

    def room(self) -> None:
        """Waits until another step may be started. The batch of that one is on its way to the devices meanwhile."""
        if len(self._pending) >= self._depth:
            jax.block_until_ready(self._pending[-self._depth])

    def add(self, metrics: dict[str, jax.Array], waited: float) -> None:
        """Takes the metrics of a step that has been started.

        Args:
          waited: seconds the loop waited for the batch.
        """
        self._pending.append(metrics)
        self._waited += waited
        if self._since is None:  # the first step compiles: the clock starts after it
            jax.block_until_ready(metrics)
            self._since, self._first, self._waited = time.perf_counter(), 1, 0.0

    def check(self, where: str) -> None:
        """Raises UserError when the loss of the newest step is not finite."""
        if self._pending and not np.isfinite(jax.device_get(self._pending[-1]["loss_sum"])):
            raise UserError(
                f"{where}: the loss is no longer finite, nothing of it was saved; lower optim.peak_lr or look at the "
                "data, and start again to go on from the last checkpoint"
            )

    def read(self, where: str) -> dict[str, Any]:
        """The numbers since the last call: loss and accuracy per answer token, gradient norm, rates, MFU.

        Raises:
          UserError: a loss that is not finite.
        """
        self.check(where)
        steps = jax.device_get(self._pending)
        now, timed = time.perf_counter(), steps[self._first :]
        elapsed = max(now - self._since, 1e-9)
        total = {k: float(sum(float(m[k]) for m in steps)) for k in ("loss_sum", "weight", "correct")}
        tokens, answers = (sum(float(m[k]) for m in timed) for k in ("tokens", "weight"))
        clips = sum(float(m["vectors"]) for m in timed) / self._vectors
        found = {
            "loss": total["loss_sum"] / max(total["weight"], 1.0),
            "accuracy": total["correct"] / max(total["weight"], 1.0),
            "grad_norm": float(np.mean([m["grad_norm"] for m in steps])),
            "lr": float(steps[-1]["lr"]),
        }
        if timed:
            found |= {
                "steps_per_second": len(timed) / elapsed,
                "clips_per_second": clips / elapsed,
                "tokens_per_second": tokens / elapsed,
                "data_wait": self._waited / elapsed,
            }
            if self._peak:
                found["mfu"] = self.flops(clips, tokens, answers) / elapsed / self._peak
        self._pending, self._since, self._first, self._waited = [], now, 0, 0.0
        return found

    def flops(self, clips: float, tokens: float, answers: float) -> float:
        """Model FLOPs of so many clips, sequence tokens and answer tokens, forward and backward."""
        context = round(tokens / max(clips, 1.0))
        per = forward_flops(self._program.model, self._samples, context)
        return per.training(self._program.stage.train, clips, tokens, answers)

    def pause(self) -> None:
        """Leaves validation and saving out of the next rates."""
        self._since = time.perf_counter() if self._since is not None else None
