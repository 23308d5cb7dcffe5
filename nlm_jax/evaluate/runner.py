"""A model's answers to the benchmark, written as they are made and gone on with where they stopped."""

import dataclasses
import json
import pathlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from nlm_jax.core.errors import UserError
from nlm_jax.evaluate.beans_zero.dataset import Head
from nlm_jax.evaluate.prediction_files import FIELDS, line
from nlm_jax.generate.request import NO_ANSWER

PREDICTIONS, SCORES, ERRORS, SETTINGS = "predictions", "label_scores", "errors", "run.json"


@runtime_checkable
class Item(Protocol):
    """A question about recordings: of the benchmark (`dataset.Item`) or of prepared data (`held_out.Question`)."""

    part: str
    id: str
    question: str
    label: str

    def waveform(self) -> Any:
        """Its sound, as `NatureLM.generate` takes it. Raises UserError where it cannot be used."""


@dataclasses.dataclass(frozen=True)
class Reply:
    """What a model makes of one question."""

    text: str
    scores: Mapping[str, float] | None = None
    """Label -> number, where labels were scored."""


Replies = Callable[[Sequence[Item], Sequence[Any]], Sequence[Reply | None]]
"""(questions, their sounds) -> replies; None if the model's logits were not finite."""


def plan(
    heads: Sequence[Head], parts: Sequence[str], limit: int, number: int, of: int, known: Counter[tuple[str, str]]
) -> tuple[list[int], int]:
    """Numbers of the rows that process `number` of `of` has still to answer, and how many are its own in all.

    Args:
      parts: these only; all where none is named.
      limit: of each part the first so many rows; 0 = all.
      known: how often (part, id) is answered; an id that stands twice in the data is asked twice.
    """
    seen: Counter[str] = Counter()
    answered, todo, taken, own = known.copy(), [], 0, 0
    for row, head in enumerate(heads):
        if parts and head.part not in parts:
            continue
        seen[head.part] += 1
        if limit and seen[head.part] > limit:
            continue
        taken += 1
        if (taken - 1) % of != number:
            continue
        own += 1
        key = (head.part, head.id)
        if answered[key]:
            answered[key] -= 1
        else:
            todo.append(row)
    return todo, own


def known(folder: pathlib.Path) -> Counter[tuple[str, str]]:
    """How often (part, id) is answered in the prediction files of a folder, whichever process wrote them.

    A last line that a crash has cut short does not count.

    Raises:
      UserError: a file holds something else.
    """
    found: Counter[tuple[str, str]] = Counter()
    for file in sorted(folder.glob(f"{PREDICTIONS}*.jsonl")):
        with file.open(encoding="utf-8") as lines:
            for text in lines:
                if text.endswith("\n"):
                    try:
                        row = json.loads(text)
                        found[str(row["dataset_name"]), str(row["id"])] += 1
                    except (ValueError, KeyError, TypeError):
                        raise UserError(f"{file}: not a file of predictions; give another --out") from None
    return found


def settle(folder: pathlib.Path, settings: Mapping[str, Any]) -> None:
    """Writes down how the answers of a folder are made, so that no run goes on with another model's.

    Raises:
      UserError: the folder holds answers that were made in another way.
    """
    file = folder / SETTINGS
    there = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else settings
    for name, value in settings.items():
        if there.get(name) != value:
            raise UserError(f"{folder}: holds answers made with {name}={there.get(name)}, not {value}; "
                            "give another --out")  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings, indent=1), encoding="utf-8")


def mended(file: pathlib.Path) -> pathlib.Path:
    """The file without a last line that a crash has cut short."""
    if file.is_file():
        text = file.read_bytes()
        if text and not text.endswith(b"\n"):
            with file.open("r+b") as out:
                out.truncate(text.rfind(b"\n") + 1)
    return file


def answer(
    items: Iterable[Item], replies: Replies, folder: pathlib.Path, mark: str, batch: int, tell: Callable[[int], None]
) -> int:
    """Appends the reply to each item to the files of `folder`; the number of items whose audio could not be used.

    Those are named, with the reason, in a file of their own, and tried again by the next run.

    Args:
      mark: of this process in the names of its files, such as ".1-of-4".
      batch: items replied to together.
      tell: called with the number of items that were answered or passed over.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = (PREDICTIONS, SCORES, ERRORS)
    predictions, scores, errors = (mended(folder / f"{name}{mark}.jsonl") for name in names)
    errors.unlink(missing_ok=True)
    predictions.touch()
    failed, waiting = 0, []

    def flush() -> int:
        heard, bad = [], []
        for item in waiting:
            try:
                heard.append((item, item.waveform()))
            except (UserError, RuntimeError, ValueError) as error:
                bad.append({"id": item.id, "dataset_name": item.part, "error": str(error)})
        made = replies([item for item, _ in heard], [wave for _, wave in heard]) if heard else []
        pairs = [(item, reply) for (item, _), reply in zip(heard, made, strict=True) if reply is not None]
        lacking = [item for (item, _), reply in zip(heard, made, strict=True) if reply is None]
        bad += [{"id": item.id, "dataset_name": item.part, "error": NO_ANSWER} for item in lacking]
        graded = [
            {"id": item.id, "dataset_name": item.part, "scores": dict(reply.scores)}
            for item, reply in pairs
            if reply.scores is not None
        ]
        values = ((reply.text, item.label, item.id, item.part) for item, reply in pairs)
        done = [dict(zip(FIELDS, row, strict=True)) for row in values]
        # Scores first: what stands in the predictions is not done again.
        for file, rows in (
            (errors, bad),
            (scores, graded),
            (predictions, done),
        ):
            if rows:
                with file.open("a", encoding="utf-8") as out:
                    out.writelines(map(line, rows))
        tell(len(waiting))
        waiting.clear()
        return len(bad)

    for item in items:
        waiting.append(item)
        if len(waiting) == batch:
            failed += flush()
    return failed + (flush() if waiting else 0)


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
