"""Puts the questions of an evaluation to a model, and writes each reply as soon as it is there."""

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from nlm_jax.core.errors import UserError
from nlm_jax.core.progress import progress_bar
from nlm_jax.evaluate.output_folder import PredictionWriter
from nlm_jax.evaluate.types import EvalQuestion, QuestionKey, Responder

BATCHES_AHEAD = 4
"""Batches passed to the model at once: it replaces a finished response by the next question."""


def select_rows(
    questions: Sequence[QuestionKey],
    parts: Sequence[str],
    limit: int,
    process: int,
    processes: int,
    answered: Counter[tuple[str, str]],
) -> tuple[list[int], int]:
    """The questions that one process still has to answer.

    Args:
      questions: of the whole data set.
      parts: only these; all if empty.
      limit: maximum number of questions of each part, from the first; 0 = all.
      process: number of this process; every `processes`-th question is its own.
      processes: number of processes that share the questions.
      answered: how often each (part, id) is answered; an id that the data has twice is answered twice.

    Returns:
      (indices of the unanswered questions, number of this process's questions in all).
    """
    per_part: Counter[str] = Counter()
    open_answers, todo, selected, own = answered.copy(), [], 0, 0
    for index, question in enumerate(questions):
        if parts and question.part not in parts:
            continue
        per_part[question.part] += 1
        if limit and per_part[question.part] > limit:
            continue
        selected += 1
        if (selected - 1) % processes != process:
            continue
        own += 1
        key = (question.part, question.id)
        if open_answers[key]:
            open_answers[key] -= 1
        else:
            todo.append(index)
    return todo, own


def answer(
    questions: Iterable[EvalQuestion],
    responder: Responder,
    writer: PredictionWriter,
    batch_size: int,
    on_progress: Callable[[int], None],
) -> int:
    """Answers questions and writes the replies, batch by batch.

    Args:
      questions: read lazily, `batch_size` at a time.
      responder: the model's replies to a batch.
      writer: gets the replies, and the reasons why questions have none.
      batch_size: questions passed to `responder` at once.
      on_progress: called with the number of questions that are answered or skipped.

    Returns:
      the number of questions without an answer: their audio cannot be used, or the logits were not finite.
    """
    failed, remaining = 0, iter(questions)
    while batch := list(itertools.islice(remaining, batch_size)):
        usable, waveforms, errors = [], [], []
        for question in batch:
            try:
                waveforms.append(question.waveform())
                usable.append(question)
            except (UserError, RuntimeError, ValueError) as error:
                errors.append((question, str(error)))
        writer.append_errors(errors)
        failed += len(errors)
        if usable:
            failed += writer.append(usable, responder(usable, waveforms))
        on_progress(len(batch))
    return failed


@contextlib.contextmanager
def show_progress(console: Any, name: str, total: int, completed: int) -> Iterator[Callable[[int], None]]:
    """Shows a progress bar on `console`; yields a function that advances it by some questions."""
    with progress_bar(console) as bar:
        task = bar.add_task(name, total=total, completed=completed)
        yield lambda count: bar.advance(task, count)


def parse_shard(text: str) -> tuple[int, int]:
    """`1/4` -> (1, 4): the second of four processes.

    Raises:
      UserError: the text has another form, or there is no such process.
    """
    process, _, processes = text.partition("/")
    if not (process.isdecimal() and processes.isdecimal() and int(process) < int(processes)):
        raise UserError(f"--shard {text}: write NUMBER/OF, counted from 0, such as 1/4")
    return int(process), int(processes)
