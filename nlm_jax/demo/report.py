"""The HTML report of a demo run: loss curves, scores and baselines, confusion matrices, example clips."""

import html
import json
import pathlib
from typing import Any

from nlm_jax.audio.mel import log_mel
from nlm_jax.data.text import PLACEHOLDER
from nlm_jax.demo import data
from nlm_jax.evaluate.accuracy import Prediction, confusion, score_by_task
from nlm_jax.page import picture
from nlm_jax.page.html import figure, page, section, table
from nlm_jax.train.config import TrainConfig

MAX_CONFUSION = 24
"""Maximum number of distinct answers in a confusion matrix."""


def write(path: pathlib.Path, result: dict[str, Any], demo: Any, config: TrainConfig) -> pathlib.Path:
    """Writes the self-contained page and returns its path."""
    parts = [
        headline(result, demo),
        section("Answers on held-out clips", scores(result)),
        section("Loss", curves(result, config)),
        section("What is confused with what", confusions(result)),
        section("Clips, questions, answers", clips(result, config)),
        section("Export and reload", reload(result)),
        section("What was run", facts(result, demo, config)),
    ]
    title = "nlm_jax: real recordings" if demo.recordings else "nlm_jax: the demo"
    path.write_text(page(title, "".join(parts)), encoding="utf-8")
    return path


def headline(result: dict[str, Any], demo: Any) -> str:
    """HTML header with a summary and the main figures."""
    first = score_by_task(result["stage1"]).get(demo.naming)
    model, logistic = score_by_task(result["final"]), score_by_task(result["baselines"]["logistic"])
    ahead = sum(s.accuracy > logistic[t].accuracy for t, s in model.items() if t in logistic)
    clips = result["counts"]
    source = f"recordings of {demo.recordings.name}" if demo.recordings else "a synthetic corpus"
    lead = (
        f"A tiny NatureLM (BEATs, window Q-Former, frozen Llama with LoRA) trained from scratch on {source}: "
        f"{clips['train'][0]} training clips, {clips['valid'][0]} held out (no individual is in both)."
    )
    tiles = [
        (f"{first.accuracy:.1%}", f"species naming after stage 1, {first.count} questions") if first else None,
        (f"{min(s.accuracy for s in model.values()):.1%}", "weakest closed task after stage 2"),
        (f"{ahead} of {len(logistic)}", "tasks ahead of logistic regression"),
        (f"{sum(seconds for _, seconds in result['times'].values()) / 60:.1f} min", "in total"),
    ]
    row = "".join(f'<div class="tile"><b>{a}</b><span>{html.escape(b)}</span></div>' for a, b in filter(None, tiles))
    return f'<header><h1>nlm_jax</h1><p class="lead">{html.escape(lead)}</p><div class="tiles">{row}</div></header>'


def scores(result: dict[str, Any]) -> str:
    """Accuracy by task with both baselines, as a chart and a table."""
    model, base = score_by_task(result["final"]), {n: score_by_task(rows) for n, rows in result["baselines"].items()}
    names = {"majority": "majority answer", "logistic": "logistic regression"}
    rows, picture_rows = [], []
    for task, s in model.items():
        others = {names[n]: base[n][task] for n in names if task in base[n]}
        cells = [f"{o.accuracy:.1%}" for o in others.values()] or ["", ""]
        spread = f"{s.distinct_answers} of {s.distinct_expected}; {s.most_common!r} {s.most_common_share:.0%}"
        rows.append(
            (task, f"{s.hits} / {s.count}", f"{s.accuracy:.1%}", f"{s.low:.1%} to {s.high:.1%}", *cells, spread)
        )
        picture_rows.append((task, s.accuracy, s.low, s.high, {n: o.accuracy for n, o in others.items()}))
    head = ("task", "right", "accuracy", "95% Wilson interval", *names.values(), "answers given (kinds; most frequent)")
    note = (
        "Generated greedily by the reloaded export; correct means equal to the expected answer after stripping blanks. "
        "Bars: model with its interval. Grey mark: majority answer of the train split. Orange mark: logistic "
        "regression on log-mel statistics of the same clips."
    )
    return f'<p class="note">{note}</p>{picture.bars(picture_rows)}{table(head, rows)}'


def curves(result: dict[str, Any], config: TrainConfig) -> str:
    """Loss curves of both pre-trainings and both stages."""
    out = []
    for name, title in (
        ("language_loss", "The tiny Llama on text alone"),
        ("encoder_loss", "The tiny BEATs on sound tags"),
    ):
        loss = result[name]
        stride = max(1, len(loss) // 80)
        line = (list(range(0, len(loss), stride)), loss[::stride])
        out.append(figure(picture.line_chart({"train": line}, "step", "loss"), title))
    for stage, folder in zip(config.stages, result["runs"], strict=True):
        train, valid = records(folder, "train"), records(folder, "valid")
        lines = {"train": ([r["step"] for r in train], [r["loss"] for r in train])}
        if valid:
            lines["held out"] = ([r["step"] for r in valid], [r["loss"] for r in valid])
        out.append(figure(picture.line_chart(lines, "step", "loss"), f"{stage.name}: nats per answer token"))
    return f'<div class="row">{"".join(out)}</div>'


def records(folder: pathlib.Path, kind: str) -> list[dict[str, Any]]:
    """Records of one kind from a run's metrics.jsonl."""
    file = folder / "metrics.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return [r for r in map(json.loads, lines) if r["kind"] == kind]


def confusions(result: dict[str, Any]) -> str:
    """Confusion matrices of the two tasks with the most distinct answers that fit."""
    figures = []
    for task, s in score_by_task(result["final"]).items():
        if 2 < s.distinct_expected <= MAX_CONFUSION:
            figures.append(
                (s.distinct_expected, figure(picture.confusion_chart(*confusion(result["final"], task)), task))
            )
    figures.sort(key=lambda entry: -entry[0])
    return "".join(f for _, f in figures[:2]) or "<p>No task with three or more kinds of answers.</p>"


def clips(result: dict[str, Any], config: TrainConfig) -> str:
    """A clip of every task: spectrogram, player, question, answer; wrong answers are marked."""
    load, cards = data.waves(result["root"], config.stages[0].data.seconds), []
    final: list[Prediction] = [*result["final"], *result["captions"][:2]]
    for task in dict.fromkeys(p.task for p in final):
        predictions = [p for p in final if p.task == task]
        example = predictions[len(predictions) // 3]
        wave = load(example.path)
        image = picture.data_uri(picture.spectrogram(log_mel(wave)), "image/png")
        verdict = (
            "right" if example.correct else ("free text" if task == "captioning" else f"expected: {example.expected}")
        )
        cards.append(
            f'<article><img alt="log-mel spectrogram" src="{image}">{picture.player(wave)}'
            f'<p class="question">{html.escape(example.prompt.replace(PLACEHOLDER, ""))}</p>'
            f'<p class="answer">{html.escape(example.answer)}</p>'
            f'<p class="verdict">{html.escape(f"{task} · {verdict}")}</p></article>'
        )
    return f'<div class="cards">{"".join(cards)}</div>'


def reload(result: dict[str, Any]) -> str:
    """Result of the export-and-reload comparison."""
    r = result["reload"]
    text = (
        "The stage 2 run was written in the official PyTorch layout (config.json, model.safetensors, llama/), loaded "
        f"again: {r['same_answers']} of {r['questions']} answers are the same, the largest difference of a logit is "
        f"{r['largest_logit_difference']:.1e}. Every answer on this page comes from the reloaded export."
    )
    return f"<p>{html.escape(text)}</p>"


def facts(result: dict[str, Any], demo: Any, config: TrainConfig) -> str:
    """Steps with their times, sizes, versions and notes."""
    times = table(("step", "what", "seconds"), [(n, what, f"{s:.0f}") for n, (what, s) in result["times"].items()])
    mesh = f"data {config.mesh.data} × fsdp {config.mesh.fsdp} × tensor {config.mesh.tensor}"
    split = ", ".join(f"{name} {clips} clips, {count} questions" for name, (clips, count) in result["counts"].items())
    rows = [("mesh", mesh), ("data", split), *result["versions"].items()]
    notes = "".join(f"<li>{html.escape(n)}</li>" for n in demo.notes)
    return f"{times}{table(('', ''), rows)}" + (f"<h3>Notes</h3><ul>{notes}</ul>" if notes else "")
