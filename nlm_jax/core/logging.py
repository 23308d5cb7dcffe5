"""Logging of a training run: progress line, `metrics.jsonl`, TensorBoard."""

import contextlib
import json
import math
import pathlib
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import rich.console
import rich.table

from nlm_jax.core.progress import progress_bar

METRICS = "metrics.jsonl"


class RunLog:
    """Writes the records of a run to the console, to JSON lines and to TensorBoard."""

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        tensorboard: bool = True,
        active: bool = True,
        console: rich.console.Console | None = None,
    ):
        """Creates no file before the first record.

        Args:
          directory: folder of `metrics.jsonl` and of the TensorBoard files.
          tensorboard: whether to write TensorBoard files.
          active: True on the first process of a job only; otherwise nothing is written.
          console: None for a new one on stdout.
        """
        self.console = (console or rich.console.Console()) if active else rich.console.Console(quiet=True)
        self.active, self.directory, self._tensorboard = active, directory, tensorboard
        self._start_step, self._board, self._progress, self._task = 0, None, None, None

    def truncate_after(self, step: int) -> None:
        """Drops the records of later steps, which a resumed run computes again."""
        self._start_step = step
        for file in self.directory.glob("*.jsonl") if self.active else ():
            truncate_after(file, step)

    def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """One record: numbers go to TensorBoard as `kind/name`, everything to the JSON lines."""
        if not self.active:
            return
        record = {"step": step, "kind": kind, "time": round(time.time(), 3), **values}
        self.append_lines(METRICS, [json.dumps(record, default=float)])
        for name, value in numbers(values, kind) if self._tensorboard else ():
            self.board.add_scalar(name, value, step)

    def append_lines(self, file: str, lines: Iterable[str]) -> None:
        """Appends lines to a file of the directory."""
        if self.active:
            self.directory.mkdir(parents=True, exist_ok=True)
            with open(self.directory / file, "a", encoding="utf-8") as out:
                out.writelines(line + "\n" for line in lines)

    def replace(self, file: str, content: str) -> None:
        """Replaces a file of the directory."""
        if self.active:
            self.directory.mkdir(parents=True, exist_ok=True)
            (self.directory / file).write_text(content, encoding="utf-8")

    @property
    def board(self):
        """TensorBoard's writer, created on first use because importing it is slow."""
        if self._board is None:
            import tensorboardX

            # purge_step hides what an interrupted run wrote after the step from which it resumes.
            path = str(self.directory / "tensorboard")
            first = self._start_step + 1  # in the name too: two runs in one second would write to the same file
            self._board = tensorboardX.SummaryWriter(path, purge_step=first, filename_suffix=f".{first}")
        return self._board

    def text(self, step: int, name: str, text: str) -> None:
        """Adds `text` to TensorBoard's text tab."""
        if self.active and self._tensorboard:
            self.board.add_text(name, text, step)

    def print(self, text: str) -> None:
        """Prints a line to the console, above the progress line if there is one."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    @contextlib.contextmanager
    def progress(self, title: str, done: int, total: int) -> Iterator[None]:
        """A progress line for the steps of one stage; without a terminal `status` prints plain lines instead."""
        if not self.console.is_terminal or not self.active:
            yield
            return
        with progress_bar(self.console, "status") as self._progress:
            self._task = self._progress.add_task(title, total=total, completed=done, status="")
            try:
                yield
            finally:
                self._progress = None

    def advance(self, done: int) -> None:
        """Moves the progress line."""
        if self._progress:
            self._progress.update(self._task, completed=done)

    def status(self, title: str, done: int, total: int, text: str) -> None:
        """Shows the latest numbers after the progress line, or as a line of their own without a terminal."""
        if self._progress:
            self._progress.update(self._task, completed=done, status=text)
        else:
            self.print(f"{title} {done}/{total} {text}")

    def table(self, view: rich.table.Table, plain: str, file: str) -> None:
        """Shows a table on a terminal, elsewhere its caption only. `file` gets the plain text."""
        if not self.active:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / file).write_text(plain, encoding="utf-8")
        if self.console.is_terminal:
            self.console.print(view)
        else:
            self.print(f"{view.caption} (table in {file})")

    def close(self) -> None:
        """Flushes and closes the TensorBoard files."""
        if self._board:
            self._board.close()


def numbers(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    """(name, number) of every number in a nested mapping."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}/{name}")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}/{name}", float(value)


def truncate_after(file: pathlib.Path, step: int) -> None:
    """Drops the records of later steps, and an incomplete last line."""
    if not file.is_file():
        return
    lines = file.read_text(encoding="utf-8").splitlines()
    records = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    if len(records) < len(lines):
        file.write_text("".join(line + "\n" for line in records), encoding="utf-8")


def human(value: float) -> str:
    """A number with three digits and an SI prefix: 1.23 k, 45.6 M."""
    if not math.isfinite(value) or value == 0:
        return f"{value:.3g}"
    power = max(0, min(4, int(math.log10(abs(value)) // 3)))
    return f"{value / 1000**power:.3g}{('', ' k', ' M', ' G', ' T')[power]}"
