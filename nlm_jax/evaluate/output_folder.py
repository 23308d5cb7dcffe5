"""The output folder of an evaluation, which several processes may write, and from which the same command resumes."""

import dataclasses
import json
import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nlm_jax.core.errors import UserError
from nlm_jax.evaluate.prediction_files import FIELDS, PredictionRow, json_line, read_label_scores, read_predictions
from nlm_jax.evaluate.types import EvalQuestion, Reply
from nlm_jax.generate.request import NO_ANSWER

PREDICTIONS, SCORES, ERRORS = "predictions", "label_scores", "errors"
"""Beginnings of file names; the suffix of a process and ".jsonl" follow."""
SETTINGS = "run.json"
METRICS, REPORT = "metrics.json", "report.html"


class PredictionWriter:
    """Appends replies and errors to the files of one process in an output folder."""

    def __init__(self, folder: pathlib.Path, suffix: str = ""):
        """Creates the folder, removes a truncated last line of its files, and the errors of an earlier run.

        Args:
          folder: may be shared by several processes.
          suffix: of this process's file names, such as ".1-of-4".
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.predictions, self.scores, self.errors = (
            folder / f"{name}{suffix}.jsonl" for name in (PREDICTIONS, SCORES, ERRORS)
        )
        for file in (self.predictions, self.scores):
            remove_truncated_line(file)
        self.errors.unlink(missing_ok=True)
        self.predictions.touch()

    def append(self, questions: Sequence[EvalQuestion], replies: Sequence[Reply | None]) -> int:
        """Writes the replies to some questions; None (the logits were not finite) is written as an error.

        Returns:
          the number of errors.
        """
        pairs = list(zip(questions, replies, strict=True))
        failed = [(question, NO_ANSWER) for question, reply in pairs if reply is None]
        self.append_errors(failed)
        answered = [(question, reply) for question, reply in pairs if reply is not None]
        # Scores first: a question whose prediction is written counts as answered, and is not repeated.
        _append(
            self.scores,
            (
                {"id": question.id, "dataset_name": question.part, "scores": dict(reply.scores)}
                for question, reply in answered
                if reply.scores is not None
            ),
        )
        values = ((reply.text, question.label, question.id, question.part) for question, reply in answered)
        _append(self.predictions, (dict(zip(FIELDS, row, strict=True)) for row in values))
        return len(failed)

    def append_errors(self, errors: Iterable[tuple[EvalQuestion, str]]) -> None:
        """Writes the reasons why questions have no answer; the next run tries them again."""
        _append(self.errors, ({"id": q.id, "dataset_name": q.part, "error": reason} for q, reason in errors))


def _append(file: pathlib.Path, rows: Iterable[dict[str, Any]]) -> None:
    """Appends rows to JSON lines; without rows no file is created."""
    if lines := [json_line(row) for row in rows]:
        with file.open("a", encoding="utf-8") as out:
            out.writelines(lines)


def remove_truncated_line(file: pathlib.Path) -> None:
    """Removes a last line that a crash has truncated."""
    if file.is_file():
        text = file.read_bytes()
        if text and not text.endswith(b"\n"):
            with file.open("r+b") as out:
                out.truncate(text.rfind(b"\n") + 1)


def count_answered(folder: pathlib.Path) -> Counter[tuple[str, str]]:
    """How often each (part, id) is answered in the prediction files of a folder, by any process.

    A truncated last line does not count.

    Raises:
      UserError: a file is not a predictions file.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for file in sorted(folder.glob(f"{PREDICTIONS}*.jsonl")):
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                if line.endswith("\n"):
                    try:
                        row = json.loads(line)
                        counts[str(row["dataset_name"]), str(row["id"])] += 1
                    except (ValueError, KeyError, TypeError):
                        raise UserError(f"{file}: not a predictions file; give another --out") from None
    return counts


def read_folder(folder: pathlib.Path) -> list[PredictionRow]:
    """The rows of all prediction files of a folder, with the label scores that belong to them.

    A row that several files contain is taken from the first of them.

    Raises:
      UserError: the folder has no predictions.
    """
    files = sorted(folder.glob(f"{PREDICTIONS}*.jsonl"))
    if not files:
        raise UserError(f"{folder}: contains no {PREDICTIONS}*.jsonl")
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for file in sorted(folder.glob(f"{SCORES}*.jsonl")):
        scores |= read_label_scores(file)
    rows: list[PredictionRow] = []
    seen: set[tuple[str, str]] = set()
    for file in files:
        read = read_predictions(file, incomplete=True)
        rows += [row for row in read if row.key not in seen]
        seen |= {row.key for row in read}
    if not rows:
        raise UserError(f"{folder}: its {PREDICTIONS}*.jsonl contain no prediction")
    return [dataclasses.replace(row, scores=scores.get(row.key, row.scores)) for row in rows]


def record_settings(folder: pathlib.Path, settings: Mapping[str, Any]) -> None:
    """Writes the settings that the predictions of a folder depend on, or compares them with those of an earlier run.

    Raises:
      UserError: the folder has predictions made with other settings.
    """
    file = folder / SETTINGS
    recorded = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else settings
    for name, value in settings.items():
        if recorded.get(name) != value:
            raise UserError(
                f"{folder}: contains predictions made with {name}={recorded.get(name)}, not {value}; give another --out"
            )
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings, indent=1), encoding="utf-8")
