"""`nlm evaluate --benchmark corpus`: asks a model the held-out questions of prepared data, scores, writes a page."""

import argparse
import html
import json
from collections.abc import Sequence
from typing import Any

from nlm_jax.convert.formats import audio_config
from nlm_jax.core import remote
from nlm_jax.core.errors import UserError
from nlm_jax.evaluate import ranking, runner
from nlm_jax.evaluate.accuracy import Prediction, confusion, score
from nlm_jax.evaluate.baselines import log_mel
from nlm_jax.evaluate.beans_zero.predict import AHEAD
from nlm_jax.evaluate.corpus import questions
from nlm_jax.evaluate.corpus.questions import Question
from nlm_jax.generate.model_args import load_model
from nlm_jax.generate.options import check_flags
from nlm_jax.page import picture
from nlm_jax.page.html import figure, page, section, table

METRICS, PREDICTIONS, REPORT = "metrics.json", "predictions.jsonl", "report.html"
LARGEST = 40
"""Kinds of answers up to which a confusion picture is readable."""
HEAD = (
    *("task", "questions", "right", "95% Wilson interval", "by nearest label", "mean over classes"),
    *("majority answer", "logistic regression"),
)


def run(args: argparse.Namespace, console) -> int:
    """Answers what is not answered yet and writes predictions, metrics and a report below `args.out`.

    Raises:
      UserError: no model, no prepared data, no such split, a folder that holds other predictions.
    """
    if not (args.model and args.data):
        raise UserError("--benchmark corpus needs --model and --data: a directory written by nlm prepare")
    if not args.out:
        raise UserError("give --out: a folder for the metrics and the report")
    if len(args.merging_alpha) > 1:
        raise UserError("--benchmark corpus takes one --merging-alpha at a time")
    if args.limit < 0 or args.batch_size < 1:
        raise UserError("--limit must not be negative, --batch-size must be at least 1")
    check_flags(args)
    data = args.data.split(",")
    asked = list(questions.questions(data, args.split, audio_config(args.model).samples, args.limit))
    file = args.out / PREDICTIONS
    failed = _answer(args, asked, console)
    if failed:
        console.print(f"{failed} questions were left out: their audio is damaged", highlight=False)
    made = questions.predictions(file, asked)
    base = questions.compared(data, args.split, made, asked)
    found = questions.figures(made, base)
    content = {"model": str(args.model), "data": data, "split": args.split, "left_out": failed, "tasks": found}
    (args.out / METRICS).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (args.out / REPORT).write_text(report(args, asked, made, base, found), encoding="utf-8")
    console.print(shown(found))
    where = remote.with_urls(args.out / REPORT)
    console.print(f"{where}: {len(made)} answers, their scores and some to hear", highlight=False)
    return 0


def _answer(args: argparse.Namespace, asked: Sequence[Question], console) -> int:
    from nlm_jax.core.progress import progress_bar

    known = runner.known(args.out)
    todo = [q for q in asked if not known[q.part, q.id]]
    if not todo:
        return 0
    model = load_model(args, args.merging_alpha[0])
    options = {"max_new_tokens": args.max_new_tokens, "batch_size": args.batch_size, "num_beams": args.num_beams}
    with progress_bar(console) as bar:
        task = bar.add_task("questions", total=len(asked), completed=len(asked) - len(todo))
        return runner.answer(
            todo,
            ranking.writer(model, **options),
            args.out,
            "",
            AHEAD * args.batch_size,
            lambda n: bar.advance(task, n),
        )


def cells(task: str, f: dict[str, Any]) -> list[str]:
    """A row below `HEAD`."""
    low, high = f["interval"]
    others = [f"{f[name]:.1%}" if name in f else "" for name in ("majority", "logistic")]
    means = [f"{f[name]:.1%}" for name in ("accuracy_by_nearest_label", "macro_recall")]
    return [task, str(f["questions"]), f"{f['accuracy']:.1%}", f"{low:.1%} to {high:.1%}", *means, *others]


def shown(found: dict[str, dict[str, Any]]):
    """The scores for the terminal."""
    from rich.table import Table

    head = ("task", "asked", "right", "95%", "nearest", "classes", "majority", "logistic")
    view = Table(*head, title="held-out questions", title_justify="left", box=None, padding=(0, 1))
    for task, figures in found.items():
        row = cells(task, figures)
        view.add_row(*row[:3], row[3].replace("% to ", "-"), *row[4:])
    return view


def report(args, asked: Sequence[Question], made: Sequence[Prediction], base, found: dict[str, dict[str, Any]]) -> str:
    """One self-contained page: scores, confusions, and answers with spectrogram and player, wrong ones first."""
    lead = f"{args.model}, asked {len(made)} questions of split {args.split!r} of {args.data}."
    note = (
        "Right means equal to the expected answer word for word. Bars: the model with its interval. Grey mark: the "
        "most frequent answer of the other splits. Orange mark: logistic regression on log-mel statistics."
    )
    scores = f'<p class="note">{note}</p>{picture.bars(questions.bars(made, base))}'
    confused = [
        figure(picture.confusion_chart(*confusion(made, task)), task)
        for task, s in score(made).items()
        if 1 < s.kinds_expected <= LARGEST
    ]
    parts = [
        f'<header><h1>Held-out questions</h1><p class="lead">{html.escape(lead)}</p></header>',
        section("Scores", scores + table(HEAD, [cells(t, f) for t, f in found.items()])),
        section("What is confused with what", "".join(confused) or "<p>No task with few enough kinds of answers.</p>"),
        section("Answers", f'<div class="cards">{"".join(map(card, *_examples(asked, made)))}</div>'),
    ]
    return page("nlm_jax: held-out questions", "".join(parts))


def _examples(asked: Sequence[Question], made: Sequence[Prediction], most: int = 3) -> tuple[list, list]:
    """Of each task a few answers, wrong ones first."""
    chosen = []
    for task in dict.fromkeys(p.task for p in made):
        chosen += sorted((p for p in made if p.task == task), key=lambda p: p.right)[:most]
    return [asked[int(p.path)] for p in chosen], chosen


def card(question: Question, answer: Prediction) -> str:
    """A clip to see and hear, with its question and answer."""
    pictures = "".join(
        f'<img alt="log-mel spectrogram" src="{picture.data_uri(picture.spectrogram(log_mel(wave)), "image/png")}">'
        f"{picture.player(wave)}"
        for wave in question.waveform()
    )
    verdict = "right" if answer.right else f"expected: {answer.expected}"
    return (
        f'<article>{pictures}<p class="question">{html.escape(answer.prompt)}</p>'
        f'<p class="answer">{html.escape(answer.answer)}</p>'
        f'<p class="verdict">{html.escape(f"{answer.task} · {verdict}")}</p></article>'
    )
