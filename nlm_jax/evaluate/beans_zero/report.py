"""The page about scored answers: beside published scores, what is confused with what, the worst examples to hear."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from rapidfuzz.distance import Levenshtein

from nlm_jax.core.errors import UserError
from nlm_jax.evaluate.accuracy import wilson
from nlm_jax.evaluate.baselines import log_mel
from nlm_jax.evaluate.beans_zero import published
from nlm_jax.evaluate.beans_zero.cider import cider_d
from nlm_jax.evaluate.beans_zero.dataset import Item
from nlm_jax.evaluate.beans_zero.parts import CAPTIONING, DETECTION, NONE, Kind
from nlm_jax.evaluate.beans_zero.score import Answer, kind_of_rows, matched, named
from nlm_jax.evaluate.nearest_label import cleaned, listed
from nlm_jax.page import picture
from nlm_jax.page.html import figure, page, section, table

MAIN = {"classification": ("Accuracy",), "detection": ("F1",), "captioning": ("spider_score", "cider")}
"""What the paper reports of a part; CIDEr-D where SPICE was not to be had."""
MAIN_NEXT = {"classification": ("macro_f1",), "detection": ("dataset_map",), "captioning": ("cider",)}
"""What BEANS-Next reports of a whole part."""
DIFFERENCES = (
    "Both scorers read the same answers, but their figures are not comparable with each other. BEANS-Zero's takes, "
    "of the labels in the answers' file, the nearest one by edit distance, upper and lower case apart, and reports "
    "averages weighted by how often a label is right; a detected item up to five edits away counts, and None is no "
    "label. BEANS-Next's has a fixed vocabulary: it takes the label that the answer is, in any case, else the "
    "longest label in it, else the nearest in lower case; detected items more than two edits away are dropped, and "
    "None is a label. Its accuracy, precision, recall and f1 are means of what each sample scores, right or not, "
    "and therefore equal; macro_f1, dataset_map and cider are of the whole part. No hash seed moves it: of equally "
    "near labels the first in the alphabet counts."
)
"""Why the two disagree."""
SCORERS = {"beans_zero": "BEANS-Zero's scorer", "beans_next": "BEANS-Next's"}
MOST_CONFUSED = 20
"""Labels up to which a picture of confusions is readable."""
EXAMPLES = 3
"""Of each part, with spectrogram and player."""


def page_of(
    found: dict[str, Any],
    parts: Mapping[str, Sequence[Answer]],
    shown: Sequence[Answer],
    clips: Mapping[tuple[str, str], Item],
    facts: Mapping[str, str],
) -> str:
    """The whole page, self-contained.

    Args:
      found: what `score` gives.
      parts: part -> its answers.
      shown: the worst of them.
      clips: (part, id) -> question and sound, of those that are at hand.
      facts: name -> what was run.
    """
    confused = "".join(confusions(part, rows) for part, rows in parts.items())
    body = [
        "<header><h1>BEANS-Zero</h1>"
        f'<p class="lead">{sum(map(len, parts.values()))} answers to {len(parts)} parts.</p></header>',
        section("Beside published scores", beside(found, parts)),
        section("Every figure", every(found)),
        section("What is confused with what", confused or "<p>Nothing: all answers are right.</p>"),
        section("The worst answers", f'<div class="cards">{"".join(card(answer, clips) for answer in shown)}</div>'),
        section("What was run", table(("", ""), [(n, v) for n, v in facts.items() if v])),
    ]
    return page("nlm_jax: BEANS-Zero", "".join(body))


def main_figure(figures: Mapping[str, float], kind: Kind) -> tuple[str, float]:
    """Name and value of the figure that a part is known by."""
    name = next(name for name in MAIN[kind] if name in figures)
    return name, figures[name]


def beside(found: dict[str, Any], parts: Mapping[str, Sequence[Answer]]) -> str:
    """A chart and a table of the main figures, with those of other systems and the tables they are taken from."""
    bars, lines = [], []
    for part, rows in parts.items():
        name, value = main_figure(found["beans_zero"][part], kind_of_rows(part, rows))
        low, high = found["tie_interval"][part][name]
        ends = wilson(round(value * len(rows)), len(rows)) if name == "Accuracy" else (low, high)
        others = published.of_part(part) if name != "cider" else {}
        bars.append((part, value, *ends, {system: p.value for system, p in others.items()}))
        cells = [f"{others[s].value:.3f} ({others[s].source})" if s in others else "" for s in published.SYSTEMS]
        ties = f"{low:.3f} to {high:.3f}" if high > low else ""
        lines.append((part, name, str(len(rows)), f"{value:.3f}", ties, *cells))
    note = (
        "Bars: these answers, with the 95% Wilson interval of an accuracy. Marks: published scores, orange "
        "NatureLM-audio, grey SALMONN and Qwen2-audio, blue BioLingual, BirdNET and Perch. Published: "
        f"{published.PAPER}, the table stands beside each number. With other ties: the benchmark's scorer takes the "
        "first of equally near labels in an order that moves with Python's hash seed, and stays between these values "
        "whatever the order. CIDEr-D alone is not comparable with SPIDEr."
    )
    head = ("part", "figure", "answers", "score", "with other ties", *published.SYSTEMS)
    return f'<p class="note">{html.escape(note)}</p>{picture.bars(bars)}{table(head, lines)}'


def every(found: dict[str, Any]) -> str:
    """All figures of both scorers, and what sets these apart."""
    made = [f'<p class="note">{html.escape(DIFFERENCES)}</p>']
    for scorer, title in SCORERS.items():
        parts = found[scorer].items()
        rows = [(part, name, f"{value:.4f}") for part, figures in parts for name, value in figures.items()]
        made.append(table(("part", f"figure of {title}", "value"), rows))
    return "".join(made)


def confusions(part: str, rows: Sequence[Answer]) -> str:
    """A matrix of true and given labels: all of a part with few, else those with the most mistakes."""
    kind = kind_of_rows(part, rows)
    if kind == CAPTIONING:
        return ""
    counts: dict[tuple[str, str], int] = {}
    for row, options in zip(rows, matched(part, rows), strict=True):
        text = named(options)
        pairs = [(row.label, text)] if kind != DETECTION else pairs_of(listed(row.label), listed(text))
        for pair in pairs:
            counts[pair] = counts.get(pair, 0) + 1
    wrong: dict[str, int] = {}
    for (truth, given), count in counts.items():
        for name in (truth, given) if truth != given else ():
            wrong[name] = wrong.get(name, 0) + count
    if not wrong:
        return ""
    truths = sorted({truth for truth, _ in counts}, key=lambda name: (-wrong.get(name, 0), name))[:MOST_CONFUSED]
    likeliest = sorted({given for _, given in counts} - set(truths), key=lambda name: (-wrong.get(name, 0), name))
    columns = [*truths, *likeliest[: max(0, MOST_CONFUSED - len(truths))]]
    grid = [[counts.get((truth, given), 0) for given in columns] for truth in truths]
    rest = [sum(n for (t, g), n in counts.items() if t == truth and g not in columns) for truth in truths]
    if any(rest):
        columns, grid = [*columns, "other"], [[*line, n] for line, n in zip(grid, rest, strict=True)]
    few = "" if len({t for t, _ in counts}) == len(truths) else f", the {len(truths)} labels with the most mistakes"
    return figure(picture.confusion_chart(truths, columns, grid), f"{part}{few}: right down, given across")


def pairs_of(truth: Sequence[str], given: Sequence[str]) -> list[tuple[str, str]]:
    """(true, given) of a detection: what is in both, then what was missed beside what was named in its place."""
    right = [(name, name) for name in truth if name in given] or ([(NONE, NONE)] if not truth and not given else [])
    missed = [name for name in truth if name not in given] or [NONE]
    false = [name for name in dict.fromkeys(given) if name not in truth] or [NONE]
    return right + ([] if missed == false == [NONE] else [(m, f) for m in missed for f in false])


def worst_of_all(parts: Mapping[str, Sequence[Answer]]) -> list[Answer]:
    """The worst answers of each part."""
    return [answer for part, rows in parts.items() for answer in worst(part, rows, EXAMPLES)]


def worst(part: str, rows: Sequence[Answer], count: int) -> list[Answer]:
    """Wrong answers farthest from the truth, of different labels first: by edit distance, captions by CIDEr-D."""
    if kind_of_rows(part, rows) == CAPTIONING:
        scores = cider_d([cleaned(row.prediction) for row in rows], [row.label for row in rows])
        order = sorted(range(len(rows)), key=lambda i: (scores[i], i))
        return [rows[i] for i in order[:count]]
    wrong = [
        row for row, one in zip(rows, matched(part, rows), strict=True)
        if set(listed(named(one))) != set(listed(row.label))
    ]  # fmt: skip
    wrong.sort(key=lambda row: -Levenshtein.normalized_distance(cleaned(row.prediction), row.label))
    firsts = list({row.label: row for row in reversed(wrong)}.values())[::-1]
    return [*firsts, *(row for row in wrong if row not in firsts)][:count]


def card(answer: Answer, clips: Mapping[tuple[str, str], Item]) -> str:
    """One answer with the sound it is about, where that is at hand."""
    item, sound = clips.get((answer.dataset_name, answer.id)), ""
    if item is not None:
        try:
            wave = item.waveform()
            image = picture.data_uri(picture.spectrogram(log_mel(wave)), "image/png")
            sound = f'<img alt="log-mel spectrogram" src="{image}">{picture.player(wave, "mpeg")}'
        except UserError as error:
            sound = f'<p class="note">no sound: {html.escape(str(error))}</p>'
    question = html.escape(item.question if item else "")
    given, truth = html.escape(cleaned(answer.prediction) or "(empty)"), html.escape(answer.label)
    where = html.escape(f"{answer.dataset_name} · {answer.id}")
    return (
        f'<article>{sound}<p class="question">{question}</p><p class="answer">{given}</p>'
        f'<p class="verdict">expected: {truth}</p><p class="verdict">{where}</p></article>'
    )


def by_alpha(found: Mapping[float, dict[str, Any]], scorer: str) -> list[tuple[str, str, list[float]]]:
    """(part, main figure, its values by alpha) of the parts that every alpha has answered."""
    made, main = [], MAIN if scorer == "beans_zero" else MAIN_NEXT
    for part in next(iter(found.values()))[scorer]:
        figures = [one[scorer].get(part) for one in found.values()]
        if all(figures):
            name = next(n for names in main.values() for n in names if all(n in one for one in figures))
            made.append((part, name, [one[name] for one in figures]))
    return made


def sweep(found: Mapping[float, dict[str, Any]]) -> str:
    """A page of what each part scores by merging alpha, for both scorers."""
    alphas = sorted(found)
    ordered = {alpha: found[alpha] for alpha in alphas}
    zero, following = by_alpha(ordered, "beans_zero"), {p: (n, v) for p, n, v in by_alpha(ordered, "beans_next")}
    charts = []
    for part, name, values in zero:
        curves = {f"beans-zero: {name}": (alphas, values)}
        if part in following:
            other, others = following[part]
            curves[f"beans-next: {other}"] = (alphas, others)
        charts.append(figure(picture.line_chart(curves, "merging alpha", name), f"{part}: {name}"))
    links = "".join(f'<li><a href="alpha-{a:g}/report.html">alpha {a:g}</a></li>' for a in alphas)
    head = ("part", "figure", *(f"alpha {alpha:g}" for alpha in alphas))
    rows = [(part, name, *(f"{v:.4f}" for v in values)) for part, name, values in zero]
    lead = '<p class="lead">0 is the base language model, 1 the trained one.</p>'
    body = [
        f"<header><h1>BEANS-Zero by merging alpha</h1>{lead}</header>",
        section("Main figures", table(head, rows)),
        section("By alpha", f'<div class="row">{"".join(charts)}</div>'),
        section("Reports", f"<ul>{links}</ul>"),
    ]
    return page("nlm_jax: BEANS-Zero by merging alpha", "".join(body))
