"""The report on held-out questions: a table for the terminal, and a self-contained HTML page."""

import html
from collections.abc import Sequence
from typing import Any

from nlm_jax.audio.mel import log_mel
from nlm_jax.evaluate.accuracy import Prediction, confusion, score_by_task
from nlm_jax.evaluate.corpus.questions import HeldOutQuestion
from nlm_jax.page import picture
from nlm_jax.page.html import figure, page, section, table

MAX_CONFUSION = 40
"""Maximum number of distinct answers in a confusion matrix."""
EXAMPLES = 3
"""Examples of each task."""
COLUMNS = (
    *("task", "questions", "correct", "95% Wilson interval", "by nearest label", "mean recall of classes"),
    *("majority answer", "logistic regression"),
)
BASELINES = {"majority answer": "majority", "logistic regression": "logistic"}


def score_cells(task: str, figures: dict[str, Any]) -> list[str]:
    """The cells of a task below `COLUMNS`."""
    low, high = figures["interval"]
    means = [f"{figures[name]:.1%}" for name in ("accuracy_by_nearest_label", "macro_recall")]
    base = [f"{figures[name]:.1%}" if name in figures else "" for name in BASELINES.values()]
    return [task, str(figures["questions"]), f"{figures['accuracy']:.1%}", f"{low:.1%} to {high:.1%}", *means, *base]


def terminal_table(figures: dict[str, dict[str, Any]]) -> Any:
    """The scores as a table of rich, narrow enough for a terminal.

    Args:
      figures: by task, as `scores.task_figures` returns them.
    """
    from rich.table import Table

    columns = ("task", "questions", "correct", "95%", "nearest", "recall", "majority", "logistic")
    view = Table(*columns, title="held-out questions", title_justify="left", box=None, padding=(0, 1))
    for task, values in figures.items():
        row = score_cells(task, values)
        view.add_row(*row[:3], row[3].replace("% to ", "-"), *row[4:])
    return view


def report_page(
    lead: str,
    questions: Sequence[HeldOutQuestion],
    predictions: Sequence[Prediction],
    base: dict[str, list[Prediction]],
    figures: dict[str, dict[str, Any]],
) -> str:
    """The HTML page: scores, confusion matrices, and examples with spectrogram and player, wrong ones first.

    Args:
      lead: what was evaluated, in a sentence.
      questions: those that `predictions` index.
      predictions: of the model.
      base: of the baselines, by name.
      figures: by task, as `scores.task_figures` returns them.
    """
    note = (
        "Correct means equal to the expected answer, word for word. Bars: the model with its interval. Grey mark: the "
        "most frequent answer of the other splits. Orange mark: logistic regression on log-mel statistics."
    )
    scores = f'<p class="note">{note}</p>{picture.bars(score_bars(predictions, base))}'
    matrices = [
        figure(picture.confusion_chart(*confusion(predictions, task)), task)
        for task, s in score_by_task(predictions).items()
        if 1 < s.distinct_expected <= MAX_CONFUSION
    ]
    cards = "".join(example_card(questions[int(p.path)], p) for p in _examples(predictions))
    parts = [
        f'<header><h1>Held-out questions</h1><p class="lead">{html.escape(lead)}</p></header>',
        section("Scores", scores + table(COLUMNS, [score_cells(task, f) for task, f in figures.items()])),
        section("Confusion matrices", "".join(matrices) or "<p>No task has few enough distinct answers.</p>"),
        section("Examples", f'<div class="cards">{cards}</div>'),
    ]
    return page("nlm_jax: held-out questions", "".join(parts))


def score_bars(predictions: Sequence[Prediction], base: dict[str, list[Prediction]]) -> list[tuple]:
    """Rows of `page.picture.bars`: accuracy with interval by task, the baselines as marks."""
    marks = {name: score_by_task(base.get(key, ())) for name, key in BASELINES.items()}
    return [
        (task, s.accuracy, s.low, s.high, {n: scores[task].accuracy for n, scores in marks.items() if task in scores})
        for task, s in score_by_task(predictions).items()
    ]


def _examples(predictions: Sequence[Prediction]) -> list[Prediction]:
    """A few predictions of each task, wrong ones first."""
    chosen = []
    for task in dict.fromkeys(p.task for p in predictions):
        chosen += sorted((p for p in predictions if p.task == task), key=lambda p: p.correct)[:EXAMPLES]
    return chosen


def example_card(question: HeldOutQuestion, prediction: Prediction) -> str:
    """A clip with spectrogram and player, its question and its answer."""
    pictures = "".join(
        f'<img alt="log-mel spectrogram" src="{picture.data_uri(picture.spectrogram(log_mel(wave)), "image/png")}">'
        f"{picture.player(wave)}"
        for wave in question.waveform()
    )
    verdict = "correct" if prediction.correct else f"expected: {prediction.expected}"
    return (
        f'<article>{pictures}<p class="question">{html.escape(prediction.prompt)}</p>'
        f'<p class="answer">{html.escape(prediction.answer)}</p>'
        f'<p class="verdict">{html.escape(f"{prediction.task} · {verdict}")}</p></article>'
    )
