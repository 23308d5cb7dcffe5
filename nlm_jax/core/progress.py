"""The progress bar of the commands."""

import rich.console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def progress_bar(console: rich.console.Console | None = None, *fields: str) -> Progress:
    """A bar with the description, the number done of the total, and the time passed and left.

    Args:
      console: where it is drawn; stderr by default.
      fields: names of further fields of a task, shown after these.

    Returns:
      the bar, to be entered as a context manager; `add_task` needs a value for each field.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    texts = (TextColumn(f"{{task.fields[{name}]}}") for name in fields)
    return Progress(*columns, *times, *texts, console=console or rich.console.Console(stderr=True))
