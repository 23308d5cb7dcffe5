"""The JSON lines that `nlm infer` writes, read one at a time: the file may be larger than the memory."""

import array
import json
import os
import pathlib
from collections.abc import Iterator

from nlm_jax.audio.formats import identity
from nlm_jax.core.errors import UserError


class AnsweredWindows:
    """The windows that have an answer, eight bytes each."""

    def __init__(self):
        self._starts: dict[tuple[str, float], array.array] = {}

    def __len__(self) -> int:
        return sum(map(len, self._starts.values()))

    def add(self, file: str, start: float, end: float) -> None:
        """Adds a window, in seconds as planned."""
        self._starts.setdefault((identity(file), round(end - start, 6)), array.array("d")).append(start)

    def starts(self, file: str, window: float) -> frozenset[float]:
        """Start times, in seconds, of the answered windows of `window` seconds of a recording."""
        return frozenset(self._starts.get((identity(file), round(window, 6)), ()))


def answered_windows(out: pathlib.Path, query: str) -> AnsweredWindows:
    """The windows for which `out` has an answer to `query`.

    Rewrites the file without its error rows, which will be tried again, and without a last line that a crash cut short.

    Raises:
      UserError: the file has other content.
    """
    windows = AnsweredWindows()
    if not out.exists():
        return windows
    temporary, dropped = out.with_name(f".{out.name}.{os.getpid()}"), 0
    try:
        with out.open(encoding="utf-8") as lines, temporary.open("w", encoding="utf-8") as copy:
            for number, line in enumerate(lines, start=1):
                try:
                    row = json.loads(line)
                    if "error" in row:
                        dropped += 1
                        continue
                    if row["query"] == query:
                        start = float(row["start"])
                        end = start + float(row["window"]) if "window" in row else float(row["end"])
                        windows.add(str(row["file"]), start, end)
                except (ValueError, KeyError, TypeError) as error:
                    if not line.endswith("\n"):
                        dropped += 1
                        continue
                    raise UserError(f"{out}:{number}: not a line of nlm infer; give another --out") from error
                copy.write(line if line.endswith("\n") else line + "\n")
        if dropped:
            temporary.replace(out)
    except UnicodeDecodeError as error:
        raise UserError(f"{out}: not a file of nlm infer; give another --out") from error
    finally:
        temporary.unlink(missing_ok=True)
    return windows


class AnswerFile:
    """The answers to one query, by recording and in order of time. Only byte offsets are in memory."""

    def __init__(self, path: pathlib.Path, query: str):
        """Indexes the file: sixteen bytes per row."""
        self._path = path
        self._index: dict[str, tuple[array.array, array.array]] = {}
        names: dict[str, str] = {}  # identity -> the name of the recording in its first row
        with path.open("rb") as lines:
            offset = 0
            for line in lines:
                row = json.loads(line)
                if "error" not in row and row.get("query", query) == query:
                    name = names.setdefault(identity(row["file"]), row["file"])
                    starts, offsets = self._index.setdefault(name, (array.array("d"), array.array("q")))
                    starts.append(row["start"])
                    offsets.append(offset)
                offset += len(line)

    def recordings(self) -> list[str]:
        """Names of the recordings, sorted."""
        return sorted(self._index)

    def rows(self, recording: str) -> Iterator[dict]:
        """The rows of a recording, from its start to its end."""
        starts, offsets = self._index[recording]
        with self._path.open("rb") as lines:
            for i in sorted(range(len(starts)), key=starts.__getitem__):
                lines.seek(offsets[i])
                yield json.loads(lines.readline()) | {"file": recording}
