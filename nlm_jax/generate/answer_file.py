"""What a file of answers holds already: read line by line, so that it may be larger than the memory."""

import array
import json
import os
import pathlib
from collections.abc import Iterator

from nlm_jax.audio.formats import identity
from nlm_jax.core.errors import UserError


class Answered:
    """Windows that are answered, eight bytes each."""

    def __init__(self):
        self._starts: dict[tuple[str, float], array.array] = {}

    def __len__(self) -> int:
        return sum(map(len, self._starts.values()))

    def add(self, file: str, start: float, end: float) -> None:
        """Notes a window, in seconds as it was planned."""
        self._starts.setdefault((identity(file), round(end - start, 6)), array.array("d")).append(start)

    def starts(self, file: str, window: float) -> frozenset[float]:
        """Where the answered windows of `window` seconds begin in a recording."""
        return frozenset(self._starts.get((identity(file), round(window, 6)), ()))


def answered(out: pathlib.Path, query: str) -> Answered:
    """The windows that `out` already answers for `query`.

    Error rows are dropped, as they will be tried again, and so is a last line cut short by a crash.

    Raises:
      UserError: the file holds something else.
    """
    done = Answered()
    if not out.exists():
        return done
    beside, dropped = out.with_name(f".{out.name}.{os.getpid()}"), 0
    try:
        with out.open(encoding="utf-8") as lines, beside.open("w", encoding="utf-8") as kept:
            for number, line in enumerate(lines, start=1):
                try:
                    row = json.loads(line)
                    if "error" in row:
                        dropped += 1
                        continue
                    if row["query"] == query:
                        start = float(row["start"])
                        end = start + float(row["window"]) if "window" in row else float(row["end"])
                        done.add(str(row["file"]), start, end)
                except (ValueError, KeyError, TypeError) as error:
                    if not line.endswith("\n"):
                        dropped += 1
                        continue
                    raise UserError(f"{out}:{number}: not a line of nlm infer; give another --out") from error
                kept.write(line if line.endswith("\n") else line + "\n")
        if dropped:
            beside.replace(out)
    except UnicodeDecodeError as error:
        raise UserError(f"{out}: not a file of nlm infer; give another --out") from error
    finally:
        beside.unlink(missing_ok=True)
    return done


class Rows:
    """The answers to one question, recording by recording and in order of time, read from the file when needed."""

    def __init__(self, answers: pathlib.Path, query: str):
        """Notes where the rows are, sixteen bytes each."""
        self._answers = answers
        self._places: dict[str, tuple[array.array, array.array]] = {}
        first: dict[str, str] = {}  # identity -> how the file is called in its first row
        with answers.open("rb") as lines:
            at = 0
            for line in lines:
                row = json.loads(line)
                if "error" not in row and row.get("query", query) == query:
                    name = first.setdefault(identity(row["file"]), row["file"])
                    starts, places = self._places.setdefault(name, (array.array("d"), array.array("q")))
                    starts.append(row["start"])
                    places.append(at)
                at += len(line)

    def files(self) -> list[str]:
        """The recordings, sorted."""
        return sorted(self._places)

    def of(self, file: str) -> Iterator[dict]:
        """The rows of a recording, from its start to its end."""
        starts, places = self._places[file]
        with self._answers.open("rb") as lines:
            for i in sorted(range(len(starts)), key=starts.__getitem__):
                lines.seek(places[i])
                yield json.loads(lines.readline()) | {"file": file}
