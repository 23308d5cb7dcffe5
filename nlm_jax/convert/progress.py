"""A bar over the tensors of a conversion."""

import contextlib
import dataclasses
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


@dataclasses.dataclass(frozen=True)
class TensorBar:
    """Called with the name of each tensor that is done."""

    bar: Progress
    task: TaskID

    def __call__(self, name: str) -> None:
        self.bar.update(self.task, advance=1, name=name)

    def expect(self, count: int) -> None:
        """That many more are to come: what writes a file knows first."""
        self.bar.update(self.task, total=(self.bar.tasks[self.task].total or 0) + count)


@contextlib.contextmanager
def tensors(title: str) -> Iterator[TensorBar]:
    """A function to call with the name of each tensor; draws on stderr."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[name]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield TensorBar(bar, bar.add_task(title, total=None, name=""))
