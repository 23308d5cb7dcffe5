"""A model's answers to the benchmark, written as they are made and gone on with where they stopped."""

import json
import pathlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from nlm_jax.core.errors import UserError
from nlm_jax.evaluate.beans_zero.files import FIELDS


@runtime_checkable
class Item(Protocol):
    """A question about recordings: of the benchmark (`dataset.Item`) or of prepared data (`held_out.Question`)."""

    part: str
    id: str
    question: str
    label: str

    def waveform(self) -> Any:
        """What `Answers` takes as its sound. Raises UserError where it cannot be used."""


Answers = Callable[[list, list[str]], list[str]]
"""(waveforms, questions) -> answers."""


def share(items: Iterable[Item], number: int, of: int, limit: int = 0) -> Iterator[Item]:
    """The items that process `number` of `of` answers, and at most `limit` (0 = all) of each part in all."""
    seen: Counter = Counter()
    for index, item in enumerate(items):
        seen[item.part] += 1
        if limit and seen[item.part] > limit:
            continue
        if index % of == number:
            yield item


def done(file: pathlib.Path) -> set[tuple[str, str]]:
    """(part, id) of the answers that `file` holds; a last line cut short by a crash is dropped.

    Raises:
      UserError: the file holds something else.
    """
    if not file.is_file():
        return set()
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        file.write_text("".join(lines[:-1]), encoding="utf-8")
        lines = lines[:-1]
    try:
        return {(row["dataset_name"], row["id"]) for row in map(json.loads, lines)}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{file}: not a file of predictions; give another --out") from None


def answer(items: Iterable[Item], answers: Answers, file: pathlib.Path, batch: int, tell: Callable[[int], None]) -> int:
    """Appends an answer for each item that `file` lacks; the number of items whose audio could not be used.

    Args:
      tell: called with the number of items that were answered or passed over.
    """
    known, failed = done(file), 0
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as out:
        waiting: list[Item] = []

        def flush() -> int:
            heard, bad = [], 0
            for item in waiting:
                try:
                    heard.append((item, item.waveform()))
                except (UserError, RuntimeError):
                    bad += 1
            texts = answers([w for _, w in heard], [item.question for item, _ in heard]) if heard else []
            for (item, _), text in zip(heard, texts, strict=True):
                values = (text, item.label, item.id, item.part)
                out.write(json.dumps(dict(zip(FIELDS, values, strict=True)), ensure_ascii=False) + "\n")
            out.flush()
            tell(len(waiting))
            waiting.clear()
            return bad

        for item in items:
            if (item.part, item.id) in known:
                tell(1)
                continue
            waiting.append(item)
            if len(waiting) == batch:
                failed += flush()
        if waiting:
            failed += flush()
    return failed


def check_shard(text: str) -> tuple[int, int]:
    """`1/4` -> (1, 4): the second of four processes.

    Raises:
      UserError: no such share.
    """
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and int(number) < int(of)):
        raise UserError(f"--shard {text}: write NUMBER/OF, counted from 0, such as 1/4")
    return int(number), int(of)


def check_parts(parts: Sequence[str], known: Iterable[str]) -> tuple[str, ...]:
    """Raises UserError where a part is none of the benchmark's."""
    for part in parts:
        if part not in known:
            raise UserError(f"--parts {part}: no such part; BEANS-Zero has {', '.join(known)}")
    return tuple(parts)
