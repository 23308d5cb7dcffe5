"""`nlm` as it is, but for what a test wants of it: a signal during some step, and a list of what was decoded.

TAMPER_SIGNAL=9@3 raises signal 9 while the third step of the process is under way; TAMPER_DECODED=file collects a line
of JSON per decoded clip: the rows of training and the examples of validation for which this process decoded.
"""

import atexit
import itertools
import json
import os
import pathlib
import signal
import sys
import threading

from jax._src import compiler, distributed

from nlm_jax import cli
from nlm_jax.data import shards
from nlm_jax.data.eval_batches import EvalSet
from nlm_jax.data.pipeline import TrainSet
from nlm_jax.train.stage_run import StageRun

what, decoded = threading.local(), []


def during(owner, name: str, kind: str) -> None:
    """Whatever `owner.name(number)` decodes is put down to (kind, number)."""
    method = getattr(owner, name)

    def noting(self, number, *rest):
        what.now = [kind, int(number)]
        try:
            return method(self, number, *rest)
        finally:
            what.now = ["other", 0]

    setattr(owner, name, noting)


def count_decoded(path: str) -> None:
    decode = shards.decode_clip

    def noting(*args):
        decoded.append(getattr(what, "now", ["other", 0]))
        return decode(*args)

    shards.decode_clip = noting
    during(TrainSet, "build_row", "row")
    during(EvalSet, "read", "example")
    atexit.register(lambda: pathlib.Path(path).write_text(json.dumps(decoded)))


def signal_at(number: int, step: int) -> None:
    """Raises signal `number` in this process while its `step`-th step is in flight."""
    steps, start_step = itertools.count(1), StageRun.step

    def tampered(self, stream):
        start_step(self, stream)
        if next(steps) == step:
            signal.raise_signal(number)

    StageRun.step = tampered


def keep_compiled() -> None:
    """Lets the second process keep its compiled programs too: on CPU they are its own, and jax keeps the first's."""
    write, state = compiler._cache_write, distributed.global_state

    def as_first(*args, **kwargs):
        index, state.process_id = state.process_id, 0
        try:
            return write(*args, **kwargs)
        finally:
            state.process_id = index

    compiler._cache_write = as_first


if __name__ == "__main__":
    keep_compiled()
    if path := os.environ.get("TAMPER_DECODED"):
        count_decoded(path)
    if plan := os.environ.get("TAMPER_SIGNAL"):
        signal_at(*map(int, plan.split("@")))
    sys.exit(cli.main())
