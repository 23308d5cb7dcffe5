"""describe.html: the statistics of describe.json as tables and charts, and examples with text and audio."""

import html
from typing import Any

import numpy as np

from nlm_jax.audio.mel import log_mel
from nlm_jax.core.chat import DEFAULT_TEMPLATE
from nlm_jax.describe import charts
from nlm_jax.describe.show import Shown
from nlm_jax.page import picture
from nlm_jax.page.html import figure, page, section, table

NAMES = {
    "silent": "silent throughout",
    "clipped": "clipped",
    "offset": "offset from zero",
    "ultrasound": "ultrasound, most of which is above the 8 kHz that are kept",
    "damaged": "not read whole",
}
ROWS = 60
"""Lines of a table; the JSON has all."""


def document(summary: dict[str, Any], shown: list[Shown], pairs: list[tuple[Shown, Shown | None]]) -> str:
    """The whole page, self-contained.

    Args:
      summary: of describe.json.
      shown: examples.
      pairs: an example before and after each augmentation.
    """
    names = ", ".join(d["name"] for d in summary["directories"])
    kinds = (("Tasks", "task"), ("Domains", "domain"), ("Splits", "split"), ("Licences", "licence"))
    parts = [
        headline(summary, names),
        section("Directories", directories(summary)) if len(summary["directories"]) > 1 else "",
        *(section(title, counted(summary[f"{kind}s"], kind)) for title, kind in kinds),
        section("Mixture", mixture(summary["mixture"])) if summary["mixture"] else "",
        section("Taxa", taxa(summary["taxa"])),
        section("Label imbalance", imbalance(summary["labels"])),
        section("Answers by task", answers(summary["answers"])),
        section("Durations, levels, clipping, silence", sound(summary)),
        section("Tokens without audio", tokens(summary)),
        section("Rejects", rejects(summary["rejects"])),
        section("Examples", examples(shown)) if shown else "",
        section("Augmentations, before and after", augmented(pairs)) if pairs else "",
    ]
    return page(f"{names}: what is in it", "".join(parts))


def headline(summary: dict[str, Any], names: str) -> str:
    """The most important numbers."""
    levels, labels, rejected = summary["levels"], summary["labels"], summary["rejects"]
    species = sum(node["species"] for node in summary["taxa"]["roots"])
    clipping, silence = levels["clipping"], levels["silence"]
    tiles = [
        (f"{summary['hours']:,.2f} h", f"in {summary['clips']:,} clips"),
        (f"{summary['examples']:,}", f"examples of {len(summary['tasks'])} tasks"),
        (f"{species:,}", "species with a lineage"),
        (f"{labels['labels']:,}", f"labels, as uneven as {labels['effective_number']:,.1f} even ones"),
        (f"{levels['rms_dbfs'].get('median', 0):.1f}", "dBFS, the median level of a clip"),
        (f"{clipping['share_of_clips']:.1%}", "of clips are clipped"),
        (f"{silence['share_of_time']:.1%}", f"of the time is silence (below {silence['below_dbfs']:.0f} dBFS)"),
        (f"{rejected['clips']:,}", f"clips left out, and {rejected['examples']:,} examples"),
    ]
    shown = "".join(f'<div class="tile"><b>{html.escape(a)}</b><span>{html.escape(b)}</span></div>' for a, b in tiles)
    lead = f'<p class="lead">Levels are those of {levels["clips"]:,} of {levels["of"]:,} clips.</p>'
    return f'<header><h1>{html.escape(names)}</h1>{lead}<div class="tiles">{shown}</div></header>'


def directories(summary: dict[str, Any]) -> str:
    """A row per prepared directory."""
    rows = [
        (d["name"], d["annotations"] or "", f"{d['examples']:,}", f"{d['clips']:,}", f"{d['hours'] or 0:.2f}")
        for d in summary["directories"]
    ]
    return table(("directory", "annotations", "examples", "clips", "hours"), rows)


def counted(rows: list[dict[str, Any]], of: str) -> str:
    """Examples, clips and hours by name."""
    shown, most = rows[:ROWS], max((r["examples"] for r in rows), default=1) or 1
    lines = [(r["name"], f"{r['examples']:,}", f"{r['clips']:,}", f"{r['hours']:.3f}") for r in shown]
    more = f'<p class="note">and {len(rows) - ROWS} more, in describe.json</p>' if len(rows) > ROWS else ""
    return charts.bar_table((of, "examples", "clips", "hours"), lines, [r["examples"] / most for r in shown]) + more


def mixture(stages: list[dict[str, Any]]) -> str:
    """Effective epochs of each stage of a config."""
    out = []
    for stage in stages:
        rows = [
            (r["of"], r["name"], f"{r['examples']:,}", f"{r['drawable']:,}", f"{r['share']:.2%}", f"{r['epochs']:.3g}")
            for r in stage["rows"]
        ]
        title = f"{stage['stage']}: {stage['steps']:,} steps of {stage['rows_a_step']} rows"
        head = ("of", "name", "examples", "drawable", "share of the stream", "epochs")
        out.append(f"<h3>{html.escape(title)}</h3>{table(head, rows)}")
    return "".join(out)


def taxa(summary: dict[str, Any]) -> str:
    """The tree of taxa, and labels without a lineage."""
    out = "<p>No example has a lineage.</p>"
    if summary["roots"]:
        out = f'<div class="taxa">{charts.tree(summary["roots"])}</div>'
    if summary["labels"]:
        title = f"<summary>{len(summary['labels']):,} labels without a lineage</summary>"
        out += f'<div class="taxa"><details>{title}{counted(summary["labels"], "label")}</details></div>'
    if summary["unlabelled"]:
        out += f'<p class="note">{summary["unlabelled"]:,} examples have neither.</p>'
    return out


def imbalance(labels: dict[str, Any]) -> str:
    """The distribution of examples over labels: statistics, a chart, the most and least frequent."""
    if not labels["labels"]:
        return "<p>No example has a label or a lineage.</p>"
    text = (
        f"{labels['labels']:,} labels (species, or the label if there is no lineage). Gini coefficient "
        f"{labels['gini']:.2f} (0 = equal), effective number of labels {labels['effective_number']:,.1f}; the most "
        f"frequent has {labels['ratio']:,.0f} times the examples of the rarest."
    )
    most, ends = labels["top"][0]["examples"], []
    for title, rows in (("most frequent", labels["top"]), ("rarest", labels["bottom"])):
        lines = [(r["name"], f"{r['examples']:,}") for r in rows]
        if rows:
            bars = charts.bar_table((title, "examples"), lines, [r["examples"] / most for r in rows])
            ends.append(f"<div>{bars}</div>")
    chart = figure(charts.falling(labels["counts"], labels["labels"]), "Examples of each label")
    return f'<p>{html.escape(text)}</p>{chart}<div class="row">{"".join(ends)}</div>'


def answers(rows: list[dict[str, Any]]) -> str:
    """The most frequent answers by task."""
    lines = [
        (
            r["task"],
            f"{r['answers']:,}",
            f"{r['effective_number']:,.1f}",
            ", ".join(f"{_cut(a['answer'], 26)} {a['share']:.0%}" for a in r["most_frequent"][:4]),
        )
        for r in rows[:ROWS]
    ]
    return table(("task", "different answers", "effective number", "most frequent"), lines)


def sound(summary: dict[str, Any]) -> str:
    """Histograms of the recordings."""
    levels = summary["levels"]
    figures = [
        figure(charts.histogram(summary["durations"], "seconds"), "Durations of clips"),
        figure(charts.histogram(levels["rms_dbfs"], "dBFS"), "Level: root mean square of a clip"),
        figure(charts.histogram(levels["peak_dbfs"], "dBFS"), "Peak of a clip"),
        figure(charts.histogram(levels["silence"]["share"], "share"), "Share of a clip that is silence"),
    ]
    clipping, silence = levels["clipping"], levels["silence"]
    sentences = [
        f"{clipping['clips']:,} clips ({clipping['share_of_clips']:.1%}) have three or more samples in a row at full "
        f"scale, {clipping['share_of_samples']:.4%} of all samples.",
        f"{silence['share_of_time']:.1%} of the time is below {silence['below_dbfs']:.0f} dBFS; "
        f"{silence['silent_clips']:,} clips are silent throughout.",
        f"{levels['offset_above_1_percent']:,} clips have an offset above 1 % of full scale.",
    ]
    for kind, names in levels["first"].items():
        if names:
            sentences.append(f"Clips that are {NAMES[kind]}, first: {', '.join(names)}; all are in flagged.jsonl.")
    if rates := summary["sources"]["rates"]:
        sentences.append(f"Source rates: {', '.join(f'{int(rate):,} Hz ({n:,} clips)' for rate, n in rates.items())}.")
    for kind in ("ultrasound", "damaged"):
        if (noted := summary["sources"][kind])["recordings"]:
            sentences.append(f"{noted['recordings']:,} recordings are {NAMES[kind]}: {'; '.join(noted['first'][:5])}.")
    if levels["damaged"]["clips"]:
        sentences.append(f"{levels['damaged']['clips']:,} records are damaged, first {levels['damaged']['first'][0]}.")
    listed = "".join(f"<li>{html.escape(s)}</li>" for s in sentences)
    return f'<div class="row two">{"".join(figures)}</div><ul>{listed}</ul>'


def tokens(summary: dict[str, Any]) -> str:
    """Lengths of questions and answers."""
    text, answer = summary["tokens"]["text"], summary["tokens"]["answer"]
    figures = figure(charts.histogram(text, "tokens"), "Question with its template and BOS") + figure(
        charts.histogram(answer, "tokens"), "Answer with its end symbol, before it is cut"
    )
    return f'<div class="row">{figures}</div>'


def rejects(summary: dict[str, Any]) -> str:
    """Rejects by reason."""
    if not summary["clips"] and not summary["examples"] and not summary["reasons"]:
        return "<p>Nothing was left out.</p>"
    rows = [
        (f"{r['entries']:,}", f"{r['examples']:,}", _cut(r["reason"], 110), _cut(r.get("file", ""), 50))
        for r in summary["reasons"]
    ]
    out = f"<p>{summary['clips']:,} clips and {summary['examples']:,} examples.</p>"
    if rows:
        out += table(("entries", "examples", "reason", "first"), rows)
    if summary["list_missing"]:
        directories = html.escape(", ".join(summary["list_missing"]))
        out += f'<p class="note">rejects.jsonl is missing in {directories}: no reasons.</p>'
    return out


def examples(shown: list[Shown]) -> str:
    """A card per example: its clips, prompt, answer and facts."""
    cards = []
    for one in shown:
        f = one.facts
        clips = ""
        for c, wave in zip(f["clips"], one.clips, strict=True):
            caption = f"{_cut(c['name'], 60)} · {c['seconds']:.2f} s · {c['rms']:.1f} dBFS"
            clips += f'{clip(wave)}<p class="verdict">{html.escape(caption)}</p>'
        labels = " · ".join(html.escape(str(f[key])) for key in ("task", "domain", "split", "licence") if f[key])
        labels = f'<p class="verdict">{labels}<br>{html.escape(f["example"])}</p>'
        facts = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(str(v))}</dd>" for k, v in f["facts"].items())
        facts = f"<details><summary>facts</summary><dl>{facts}</dl></details>" if facts else ""
        cards.append(f"<article>{clips}{prompt(f)}{labels}{facts}</article>")
    return f'<div class="cards wide">{"".join(cards)}</div>'


def augmented(pairs: list[tuple[Shown, Shown | None]]) -> str:
    """Per augmentation an example before and after, with the parameters and whether the text changes."""
    out = []
    for before, after in pairs:
        f = before.facts
        chance = f"probability {f['probability']:g}" if f["probability"] else "off unless a config switches it on"
        title = f"<h3>{html.escape(f['kind'])} <small>{chance}</small></h3>"
        if after is None:
            out.append(f'{title}<p class="note">{html.escape(f["skipped"])}</p>')
            continue
        drawn = ", ".join(f"{name} {value:g}" for name, value in after.facts["parameters"].items())
        sides = []
        for name, side in (("before", before), ("after", after)):
            level = ", ".join(f"{one['rms']:.1f} dBFS, peak {one['peak']:.1f}" for one in side.facts["levels"])
            clips = "".join(map(clip, side.clips))
            sides.append(f'<article>{clips}<p class="verdict">{name} · {level}</p>{prompt(side.facts)}</article>')
        changed = (f["question"], f["answer"]) != (after.facts["question"], after.facts["answer"])
        texts = "question and answer change" if changed else "question and answer stay"
        note = " · ".join(filter(None, (f["task"], f["example"], drawn, texts)))
        out.append(f'{title}<p class="note">{html.escape(note)}</p><div class="cards wide">{"".join(sides)}</div>')
    return "".join(out)


def clip(wave: np.ndarray) -> str:
    """Spectrogram and player of a clip."""
    image = picture.data_uri(picture.spectrogram(log_mel(wave), 2), "image/png") if wave.size else ""
    return f'<img alt="log-mel spectrogram, 0 to 8 kHz" src="{image}">{picture.player(wave)}'


def prompt(facts: dict[str, Any]) -> str:
    """The rendered prompt, with question and answer highlighted."""
    shown, end = html.escape(facts["prompt"]), html.escape(facts["answer"])
    shown = shown.replace(html.escape(facts["question"]), f"<b>{html.escape(facts['question'])}</b>", 1)
    tail = html.escape(DEFAULT_TEMPLATE.partition("{}")[2]) + end
    at = shown.rfind(tail)
    if end and at >= 0:
        at += len(tail) - len(end)
        shown = f'{shown[:at]}<b class="said">{end}</b>{shown[at + len(end) :]}'
    return f'<pre class="prompt">{shown}</pre>'


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
