"""A bar over the tensors of a conversion."""

import contextlib
import dataclasses
from collections.abc import Iterator

from rich.progress import Progress, TaskID

from nlm_jax.core.progress import progress_bar


@dataclasses.dataclass(frozen=True)
class TensorBar:
    """Called with the name of each tensor that is done."""

    bar: Progress
    task: TaskID

    def __call__(self, name: str) -> None:
        self.bar.update(self.task, advance=1, name=name)

    def expect(self, count: int) -> None:
        """Adds to the expected total, which the writer of a file knows first."""
        self.bar.update(self.task, total=(self.bar.tasks[self.task].total or 0) + count)


@contextlib.contextmanager
def tensors(title: str) -> Iterator[TensorBar]:
    """A function to call with the name of each tensor; draws on stderr."""
    with progress_bar(None, "name") as bar:
        yield TensorBar(bar, bar.add_task(title, total=None, name=""))
