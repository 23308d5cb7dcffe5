"""Resumable steps: the result of a finished step is saved, and a rerun of the command reads it instead."""

import contextlib
import json
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import rich.console

from nlm_jax.core.errors import UserError
from nlm_jax.core.files import write_json


class Steps:
    """Results of steps in `out/steps/`, one JSON file each, with the time each took."""

    def __init__(self, out: pathlib.Path, plan: dict[str, Any], console: rich.console.Console | None = None):
        """Creates `out` or continues in it.

        Args:
          plan: the settings on which all results depend.

        Raises:
          UserError: `out` has the results of another plan, or other files.
        """
        self.folder, self.console = out / "steps", console or rich.console.Console()
        file = out / "plan.json"
        plan = json.loads(json.dumps(plan))
        if file.is_file():
            previous = json.loads(file.read_text(encoding="utf-8"))
            different = sorted(k for k in {*plan, *previous} if plan.get(k) != previous.get(k))
            if different:
                raise UserError(
                    f"--out={out}: was started with other {', '.join(different)}; "
                    "choose another directory or delete this one"
                )
        elif out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"--out={out}: exists and has other content; choose a new directory")
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(file, plan)

    def run(self, name: str, title: str, work: Callable[[], Any], clear: pathlib.Path | None = None) -> Any:
        """Returns the saved result of a step, or runs `work` and saves its result.

        Args:
          name: of the step and its file.
          title: for the console and the report.
          work: returns a JSON value.
          clear: directory to delete first, which an interrupted attempt may have left.
        """
        file = self.folder / f"{name}.json"
        if file.is_file():
            self.console.print(f"[dim]{name}: already done[/dim]")
            return json.loads(file.read_text(encoding="utf-8"))["result"]
        if clear is not None:
            shutil.rmtree(clear, ignore_errors=True)
        self.console.rule(f"{name}: {title}", align="left")
        started = time.perf_counter()
        result = work()
        seconds = round(time.perf_counter() - started, 1)
        write_json(file, {"what": title, "seconds": seconds, "result": result})
        self.console.print(f"[dim]{name}: {seconds:.0f} s[/dim]")
        return json.loads(file.read_text(encoding="utf-8"))["result"]

    def times(self) -> dict[str, tuple[str, float]]:
        """Step -> (title, seconds), in the order in which they finished."""
        files = sorted(self.folder.glob("*.json"), key=lambda p: p.stat().st_mtime)
        records = {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in files}
        return {name: (record["what"], record["seconds"]) for name, record in records.items()}


@contextlib.contextmanager
def progress_printer(
    console: rich.console.Console, title: str, seconds: float = 10.0
) -> Iterator[Callable[[int, float], None]]:
    """Gives a function `report(step, loss)` that prints at most once per `seconds`."""
    last = time.monotonic()

    def report(step: int, loss: float) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            console.print(f"  {title} step {step}: loss {loss:.3f}", highlight=False)

    yield report
