"""What a long job shows and keeps: a progress line, `metrics.jsonl`, TensorBoard."""

import contextlib
import json
import math
import pathlib
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import rich.console
import rich.progress
import rich.table

METRICS = "metrics.jsonl"


class RunLog:
    """Writes numbers where people look for them. Only the first process of a job gets one with `active`."""

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        tensorboard: bool = True,
        active: bool = True,
        console: rich.console.Console | None = None,
    ):
        """Nothing is made on disk before the first record."""
        self.console = (console or rich.console.Console()) if active else rich.console.Console(quiet=True)
        self.active, self.directory, self._tensorboard = active, directory, tensorboard
        self._since, self._board, self._progress, self._task = 0, None, None, None

    def forget_after(self, step: int) -> None:
        """Drops the records of later steps: a run that goes on will compute them again."""
        self._since = step
        for file in self.directory.glob("*.jsonl") if self.active else ():
            forget_after(file, step)

    def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """One record: numbers go to TensorBoard as `kind/name`, everything to the JSON lines."""
        if not self.active:
            return
        record = {"step": step, "kind": kind, "time": round(time.time(), 3), **values}
        self.lines(METRICS, [json.dumps(record, default=float)])
        for name, value in numbers(values, kind) if self._tensorboard else ():
            self.board.add_scalar(name, value, step)

    def lines(self, file: str, lines: Iterable[str]) -> None:
        """Appends lines to a file of the directory."""
        if self.active:
            self.directory.mkdir(parents=True, exist_ok=True)
            with open(self.directory / file, "a", encoding="utf-8") as out:
                out.writelines(line + "\n" for line in lines)

    def replace(self, file: str, content: str) -> None:
        """Writes a file of the directory anew."""
        if self.active:
            self.directory.mkdir(parents=True, exist_ok=True)
            (self.directory / file).write_text(content, encoding="utf-8")

    @property
    def board(self):
        """TensorBoard's writer, made when first used; importing it takes a moment."""
        if self._board is None:
            import tensorboardX

            # purge_step hides what an interrupted run wrote past the step it goes on from.
            path = str(self.directory / "tensorboard")
            self._board = tensorboardX.SummaryWriter(path, purge_step=self._since + 1)
        return self._board

    def text(self, step: int, name: str, text: str) -> None:
        """A piece of prose for TensorBoard's text tab."""
        if self.active and self._tensorboard:
            self.board.add_text(name, text, step)

    def say(self, text: str) -> None:
        """A line for people, above the progress line where there is one."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    @contextlib.contextmanager
    def progress(self, title: str, done: int, total: int) -> Iterator[None]:
        """A progress line for the steps of one stage; without a terminal `status` prints plain lines instead."""
        if not self.console.is_terminal or not self.active:
            yield
            return
        columns = (
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[status]}"),
        )
        with rich.progress.Progress(*columns, console=self.console) as self._progress:
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
        """The newest numbers, behind the progress line or as a line of their own."""
        if self._progress:
            self._progress.update(self._task, completed=done, status=text)
        else:
            self.say(f"{title} {done}/{total} {text}")

    def table(self, view: rich.table.Table, plain: str, file: str) -> None:
        """Shows a table on a terminal; anywhere else its last line. The plain text goes to `file`."""
        if not self.active:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / file).write_text(plain, encoding="utf-8")
        if self.console.is_terminal:
            self.console.print(view)
        else:
            self.say(f"{view.caption} (table in {file})")

    def close(self) -> None:
        if self._board:
            self._board.close()


def numbers(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    """(name, number) of every number in a nested mapping."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}/{name}")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}/{name}", float(value)


def forget_after(file: pathlib.Path, step: int) -> None:
    """Drops the records of later steps, and a last line that was cut off."""
    if not file.is_file():
        return
    lines = file.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    if len(kept) < len(lines):
        file.write_text("".join(line + "\n" for line in kept), encoding="utf-8")


def human(value: float) -> str:
    """Three digits and a unit: 1.23 k, 45.6 M."""
    if not math.isfinite(value) or value == 0:
        return f"{value:.3g}"
    power = max(0, min(4, int(math.log10(abs(value)) // 3)))
    return f"{value / 1000**power:.3g}{('', ' k', ' M', ' G', ' T')[power]}"
