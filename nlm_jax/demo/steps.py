"""Steps that are done once: a finished one leaves a note, and a second run of the same command reads it instead."""

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
    """Notes of the steps in `out/steps/`, each with what the step returned and how long it took."""

    def __init__(self, out: pathlib.Path, plan: dict[str, Any], console: rich.console.Console | None = None):
        """`plan` is what all results depend on: notes made under another plan are an error.

        Raises:
          UserError: `out` holds the results of another plan, or something that is no demo at all.
        """
        self.folder, self.console = out / "steps", console or rich.console.Console()
        file = out / "plan.json"
        plan = json.loads(json.dumps(plan))
        if file.is_file():
            before = json.loads(file.read_text(encoding="utf-8"))
            different = sorted(k for k in {*plan, *before} if plan.get(k) != before.get(k))
            if different:
                raise UserError(
                    f"--out={out}: was begun with other {', '.join(different)}; "
                    "choose another directory or delete this one"
                )
        elif out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"--out={out}: exists and holds something else; choose a new directory")
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(file, plan)

    def run(self, name: str, what: str, work: Callable[[], Any], clear: pathlib.Path | None = None) -> Any:
        """The result (JSON) of step `name`: from its note, or by doing `work()` now.

        `clear` is a directory that a half-done attempt may have left and that `work` wants new.
        """
        note = self.folder / f"{name}.json"
        if note.is_file():
            self.console.print(f"[dim]{name}: done before[/dim]")
            return json.loads(note.read_text(encoding="utf-8"))["result"]
        if clear is not None:
            shutil.rmtree(clear, ignore_errors=True)
        self.console.rule(f"{name}: {what}", align="left")
        started = time.perf_counter()
        result = work()
        seconds = round(time.perf_counter() - started, 1)
        write_json(note, {"what": what, "seconds": seconds, "result": result})
        self.console.print(f"[dim]{name}: {seconds:.0f} s[/dim]")
        return json.loads(note.read_text(encoding="utf-8"))["result"]

    def times(self) -> dict[str, tuple[str, float]]:
        """Step -> (what, seconds), in the order in which they were finished."""
        notes = sorted(self.folder.glob("*.json"), key=lambda p: p.stat().st_mtime)
        read = {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in notes}
        return {name: (note["what"], note["seconds"]) for name, note in read.items()}


@contextlib.contextmanager
def every(console: rich.console.Console, title: str, seconds: float = 10.0) -> Iterator[Callable[[int, float], None]]:
    """A `report(step, loss)` that prints at most once in `seconds`."""
    last = time.monotonic()

    def report(step: int, loss: float) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            console.print(f"  {title} step {step}: loss {loss:.3f}", highlight=False)

    yield report
