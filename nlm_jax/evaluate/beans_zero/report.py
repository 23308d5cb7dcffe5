"""The HTML report on BEANS-Zero predictions: published scores, confusion matrices, the worst predictions with audio."""

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rapidfuzz.distance import Levenshtein

from nlm_jax.audio.mel import log_mel
from nlm_jax.core.errors import UserError
from nlm_jax.evaluate.accuracy import wilson
from nlm_jax.evaluate.beans_zero import published
from nlm_jax.evaluate.beans_zero.cider import cider_d
from nlm_jax.evaluate.beans_zero.dataset import BenchmarkItem
from nlm_jax.evaluate.beans_zero.parts import CAPTIONING, DETECTION, NONE, Kind
from nlm_jax.evaluate.beans_zero.score import first_labels, kind_of_rows, nearest_labels
from nlm_jax.evaluate.nearest_label import split_detection, strip_end_tokens
from nlm_jax.evaluate.prediction_files import PredictionRow
from nlm_jax.page import picture
from nlm_jax.page.html import figure, page, section, table

MAIN = {"classification": ("Accuracy",), "detection": ("F1",), "captioning": ("spider_score", "cider")}
"""The figure of a part in the paper; CIDEr-D if SPICE was not computed."""
MAIN_NEXT = {"classification": ("macro_f1",), "detection": ("dataset_map",), "captioning": ("cider",)}
"""The figure that BEANS-Next computes over a whole part."""
DIFFERENCES = (
    "Both scorers read the same predictions, but their figures are not comparable with each other. BEANS-Zero's takes "
    "the nearest, by case-sensitive edit distance, of the labels in the predictions file, and reports averages "
    "weighted by how often a label is correct; a detected item up to five edits away counts, and None is not a label. "
    "BEANS-Next's has a fixed vocabulary: it takes the label equal to the response, ignoring case, else the longest "
    "label in it, else the nearest in lower case; detected items more than two edits away are dropped, and None is a "
    "label. Its accuracy, precision, recall and f1 are means over samples, each correct or not, and therefore equal; "
    "macro_f1, dataset_map and cider are computed over the whole part. It does not depend on the hash seed: of equally "
    "near labels the alphabetically first counts."
)
"""Why the two disagree."""
SCORERS = {"beans_zero": "BEANS-Zero's scorer", "beans_next": "BEANS-Next's"}
MAX_CONFUSION = 20
"""Maximum number of labels in a confusion matrix."""
EXAMPLES = 3
"""Examples of each part, with spectrogram and player."""


def report_page(
    figures: dict[str, Any],
    parts: Mapping[str, Sequence[PredictionRow]],
    examples: Sequence[PredictionRow],
    questions: Mapping[tuple[str, str], BenchmarkItem],
    facts: Mapping[str, str],
) -> str:
    """The whole page, self-contained.

    Args:
      figures: as `score_predictions` returns them.
      parts: part -> its predictions.
      examples: the worst predictions.
      questions: (part, id) -> question with audio, as far as available.
      facts: name -> value, of what was evaluated.
    """
    confusions = "".join(confusion_figure(part, rows) for part, rows in parts.items())
    cards = "".join(example_card(row, questions) for row in examples)
    body = [
        "<header><h1>BEANS-Zero</h1>"
        f'<p class="lead">{sum(map(len, parts.values()))} predictions for {len(parts)} parts.</p></header>',
        section("Comparison with published scores", comparison(figures, parts)),
        section("All figures", all_figures(figures)),
        section("Confusion matrices", confusions or "<p>All predictions are correct.</p>"),
        section("Worst predictions", f'<div class="cards">{cards}</div>'),
        section("Settings", table(("", ""), [(name, value) for name, value in facts.items() if value])),
    ]
    return page("nlm_jax: BEANS-Zero", "".join(body))


def main_figure(figures: Mapping[str, float], kind: Kind) -> tuple[str, float]:
    """Name and value of the figure that represents a part."""
    name = next(name for name in MAIN[kind] if name in figures)
    return name, figures[name]


def comparison(figures: dict[str, Any], parts: Mapping[str, Sequence[PredictionRow]]) -> str:
    """A chart and a table of the main figures next to those of other systems and their sources."""
    bars, lines = [], []
    for part, rows in parts.items():
        name, value = main_figure(figures["beans_zero"][part], kind_of_rows(part, rows))
        low, high = figures["tie_interval"][part][name]
        ends = wilson(round(value * len(rows)), len(rows)) if name == "Accuracy" else (low, high)
        others = published.of_part(part) if name != "cider" else {}
        bars.append((part, value, *ends, {system: p.value for system, p in others.items()}))
        cells = [f"{others[s].value:.3f} ({others[s].source})" if s in others else "" for s in published.SYSTEMS]
        ties = f"{low:.3f} to {high:.3f}" if high > low else ""
        lines.append((part, name, str(len(rows)), f"{value:.3f}", ties, *cells))
    note = (
        "Bars: these predictions, with the 95% Wilson interval of an accuracy. Marks: published scores; orange "
        "NatureLM-audio, grey SALMONN and Qwen2-audio, blue BioLingual, BirdNET and Perch. Source of published scores: "
        f"{published.PAPER}, with the table next to each number. Range over ties: the benchmark's scorer takes the "
        "first of equally near labels in an order that depends on Python's hash seed; its figure lies in this range "
        "for every order. CIDEr-D alone is not comparable with SPIDEr."
    )
    columns = ("part", "figure", "predictions", "score", "range over ties", *published.SYSTEMS)
    return f'<p class="note">{html.escape(note)}</p>{picture.bars(bars)}{table(columns, lines)}'


def all_figures(figures: dict[str, Any]) -> str:
    """The tables of both scorers, and how they differ."""
    body = [f'<p class="note">{html.escape(DIFFERENCES)}</p>']
    for scorer, title in SCORERS.items():
        parts = figures[scorer].items()
        rows = [(part, name, f"{value:.4f}") for part, values in parts for name, value in values.items()]
        body.append(table(("part", f"figure of {title}", "value"), rows))
    return "".join(body)


def confusion_figure(part: str, rows: Sequence[PredictionRow]) -> str:
    """The confusion matrix of a part, limited to the labels with the most errors; "" without errors or labels."""
    kind = kind_of_rows(part, rows)
    if kind == CAPTIONING:
        return ""
    counts: Counter[tuple[str, str]] = Counter()
    for row, match in zip(rows, nearest_labels(part, rows), strict=True):
        text = first_labels(match)
        counts.update(
            confused_pairs(split_detection(row.label), split_detection(text))
            if kind == DETECTION
            else [(row.label, text)]
        )
    errors: Counter[str] = Counter()
    for (correct, predicted), count in counts.items():
        if correct != predicted:
            errors.update({correct: count, predicted: count})
    if not errors:
        return ""
    by_errors = lambda names: sorted(names, key=lambda name: (-errors[name], name))  # noqa: E731
    labels = {correct for correct, _ in counts}
    lines = by_errors(labels)[:MAX_CONFUSION]
    others = by_errors({predicted for _, predicted in counts} - set(lines))
    columns = [*lines, *others[: max(0, MAX_CONFUSION - len(lines))]]
    grid = [[counts[correct, predicted] for predicted in columns] for correct in lines]
    rest = [sum(n for (c, p), n in counts.items() if c == correct and p not in columns) for correct in lines]
    if any(rest):
        columns, grid = [*columns, "other"], [[*line, n] for line, n in zip(grid, rest, strict=True)]
    selection = "" if len(labels) == len(lines) else f", the {len(lines)} labels with the most errors"
    caption = f"{part}{selection}: rows are correct labels, columns predicted ones"
    return figure(picture.confusion_chart(lines, columns, grid), caption)


def confused_pairs(correct: Sequence[str], predicted: Sequence[str]) -> list[tuple[str, str]]:
    """(correct, predicted) pairs of a detection: labels in both, then each missed label with each false one."""
    both = [(name, name) for name in correct if name in predicted]
    if not correct and not predicted:
        both = [(NONE, NONE)]
    missed = [name for name in correct if name not in predicted] or [NONE]
    false = [name for name in dict.fromkeys(predicted) if name not in correct] or [NONE]
    return both + ([] if missed == false == [NONE] else [(m, f) for m in missed for f in false])


def worst_of_all(parts: Mapping[str, Sequence[PredictionRow]]) -> list[PredictionRow]:
    """The worst predictions of each part."""
    return [row for part, rows in parts.items() for row in worst(part, rows, EXAMPLES)]


def worst(part: str, rows: Sequence[PredictionRow], count: int) -> list[PredictionRow]:
    """The wrong predictions farthest from the label by edit distance, different labels first; captions by CIDEr-D.

    Args:
      part: of the benchmark.
      rows: its predictions.
      count: maximum number of predictions.
    """
    if kind_of_rows(part, rows) == CAPTIONING:
        scores = cider_d([strip_end_tokens(row.prediction) for row in rows], [row.label for row in rows])
        order = sorted(range(len(rows)), key=lambda i: (scores[i], i))
        return [rows[i] for i in order[:count]]
    wrong = [
        row
        for row, match in zip(rows, nearest_labels(part, rows), strict=True)
        if set(split_detection(first_labels(match))) != set(split_detection(row.label))
    ]
    wrong.sort(key=lambda row: -Levenshtein.normalized_distance(strip_end_tokens(row.prediction), row.label))
    first_of_label = list({row.label: row for row in reversed(wrong)}.values())[::-1]
    return [*first_of_label, *(row for row in wrong if row not in first_of_label)][:count]


def example_card(row: PredictionRow, questions: Mapping[tuple[str, str], BenchmarkItem]) -> str:
    """One prediction, with its query, spectrogram and player if available."""
    item, audio = questions.get(row.key), ""
    if item is not None:
        try:
            wave = item.waveform()
            image = picture.data_uri(picture.spectrogram(log_mel(wave)), "image/png")
            audio = f'<img alt="log-mel spectrogram" src="{image}">{picture.player(wave, "mpeg")}'
        except UserError as error:
            audio = f'<p class="note">no audio: {html.escape(str(error))}</p>'
    query = html.escape(item.query if item else "")
    prediction, label = html.escape(strip_end_tokens(row.prediction) or "(empty)"), html.escape(row.label)
    source = html.escape(f"{row.dataset_name} · {row.id}")
    return (
        f'<article>{audio}<p class="question">{query}</p><p class="answer">{prediction}</p>'
        f'<p class="verdict">expected: {label}</p><p class="verdict">{source}</p></article>'
    )


# --- merging alphas ---------------------------------------------------------------------------------------------------
def main_by_alpha(figures: Mapping[float, dict[str, Any]], scorer: str) -> list[tuple[str, str, list[float]]]:
    """(part, main figure, its value for each alpha) of the parts that have predictions for every alpha.

    Args:
      figures: alpha -> figures, as `score_predictions` returns them.
      scorer: a key of `SCORERS`.
    """
    lines, main = [], MAIN if scorer == "beans_zero" else MAIN_NEXT
    for part in next(iter(figures.values()))[scorer]:
        values = [one[scorer].get(part) for one in figures.values()]
        if all(values):
            name = next(n for names in main.values() for n in names if all(n in one for one in values))
            lines.append((part, name, [one[name] for one in values]))
    return lines


def alpha_page(figures: Mapping[float, dict[str, Any]]) -> str:
    """A page with the main figure of each part by merging alpha, for both scorers.

    Args:
      figures: alpha -> figures, as `score_predictions` returns them.
    """
    alphas = sorted(figures)
    ordered = {alpha: figures[alpha] for alpha in alphas}
    lines = main_by_alpha(ordered, "beans_zero")
    next_figures = {part: (name, values) for part, name, values in main_by_alpha(ordered, "beans_next")}
    charts = []
    for part, name, values in lines:
        curves = {f"beans-zero: {name}": (alphas, values)}
        if part in next_figures:
            next_name, next_values = next_figures[part]
            curves[f"beans-next: {next_name}"] = (alphas, next_values)
        charts.append(figure(picture.line_chart(curves, "merging alpha", name), f"{part}: {name}"))
    links = "".join(f'<li><a href="alpha-{a:g}/report.html">alpha {a:g}</a></li>' for a in alphas)
    columns = ("part", "figure", *(f"alpha {alpha:g}" for alpha in alphas))
    rows = [(part, name, *(f"{v:.4f}" for v in values)) for part, name, values in lines]
    lead = '<p class="lead">0 is the base language model, 1 the trained one.</p>'
    body = [
        f"<header><h1>BEANS-Zero by merging alpha</h1>{lead}</header>",
        section("Main figures", table(columns, rows)),
        section("Charts", f'<div class="row">{"".join(charts)}</div>'),
        section("Reports", f"<ul>{links}</ul>"),
    ]
    return page("nlm_jax: BEANS-Zero by merging alpha", "".join(body))
