"""Charts of distributions, tables with bars, and trees, for the page about a corpus."""

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nlm_jax.describe.index import round_step
from nlm_jax.page.picture import label, nice, rule, svg

CHILDREN = 100
"""Branches of one node of the tree that are shown; the JSON has all."""


def histogram(spread: dict[str, Any], unit: str) -> str:
    """SVG of a `spread`: bars, and the median as a line."""
    counts, edges = spread["counts"], spread["edges"]
    if not counts:
        return "<p>no data</p>"
    width, height, left, bottom, top = 460, 220, 50, 34, 14
    low, high, most = edges[0], edges[-1], nice(max(counts))
    x = lambda value: left + (width - left - 14) * (value - low) / (high - low)  # noqa: E731
    y = lambda count: height - bottom - (height - bottom - top) * count / most  # noqa: E731
    out = []
    for k in range(5):
        count = most * k / 4
        out += [rule(left, y(count), width - 14, y(count)), label(left - 6, y(count) + 4, short(count), anchor="end")]
    step = round_step((high - low) / 6)
    for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1):
        out.append(label(x(k * step), height - bottom + 15, short(k * step)))
    for count, a, b in zip(counts, edges, edges[1:], strict=False):
        out.append(bar(x(a) + 0.5, y(count), max(1.0, x(b) - x(a) - 1), y(0) - y(count)))
    out.append(rule(x(spread["median"]), top, x(spread["median"]), y(0), "whisker"))
    out.append(label((left + width) / 2, height - 3, f"{unit}; the line is the median, {short(spread['median'])}"))
    return svg(width, height, out, f"histogram by {unit}")


def falling(counts: Sequence[int], labels: int) -> str:
    """SVG of counts in descending order on a logarithmic axis, with their mean."""
    if not counts:
        return "<p>no labels</p>"
    width, height, left, bottom, top = 700, 240, 50, 34, 14
    powers, step = max(1, int(np.ceil(np.log10(max(counts) + 1e-9)))), (width - left - 14) / len(counts)
    y = lambda count: height - bottom - (height - bottom - top) * np.log10(max(1.0, count)) / powers  # noqa: E731
    out = []
    for power in range(powers + 1):
        at = y(10**power)
        out += [rule(left, at, width - 14, at), label(left - 6, at + 4, short(10**power), anchor="end")]
    for rank, count in enumerate(counts):
        high = max(1.5, y(1) - y(count))
        out.append(bar(left + rank * step, y(1) - high, max(0.6, step - min(1.0, step / 4)), high))
    mean = sum(counts) / len(counts)
    out.append(rule(left, y(mean), width - 14, y(mean), "whisker"))
    out.append(label(width - 16, y(mean) - 5, f"mean {short(mean)}", anchor="end"))
    for rank in dict.fromkeys((0, len(counts) // 2, len(counts) - 1)):
        number = 1 + round(rank * (labels - 1) / max(1, len(counts) - 1))
        out.append(label(left + step * (rank + 0.5), height - bottom + 15, str(number)))
    out.append(label((left + width) / 2, height - 3, "labels from most to fewest examples (logarithmic)"))
    return svg(width, height, out, "examples per label", "wide")


def bar(x: float, y: float, width: float, height: float) -> str:
    """A filled rectangle in an SVG."""
    return f'<rect class="bar" x="{x:.2f}" y="{y:.1f}" width="{width:.2f}" height="{max(0.0, height):.1f}"/>'


def short(value: float) -> str:
    """A number in a few characters."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (size if sign != 'k' else 1e3):.3g}{sign}"
    return f"{value:.4g}"


def duration(hours: float) -> str:
    """Hours, minutes or seconds, whichever fits the magnitude."""
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{hours * 60:.0f} min" if hours * 60 >= 2 else f"{hours * 3600:.0f} s"


def bar_table(head: Sequence[str], rows: Sequence[Sequence[Any]], share: Sequence[float]) -> str:
    """A table whose first column has a bar of length `share` (0 to 1) after its text."""
    cells = "".join(f"<th{' class=number' if k else ''}>{html.escape(h)}</th>" for k, h in enumerate(head))
    body = []
    for row, part in zip(rows, share, strict=True):
        name = f'<i style="width:{100 * part:.1f}%"></i><span>{html.escape(str(row[0]))}</span>'
        rest = "".join(f"<td class=number>{html.escape(str(cell))}</td>" for cell in row[1:])
        body.append(f'<tr><td class="barred">{name}</td>{rest}</tr>')
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def tree(nodes: Sequence[dict[str, Any]], depth: int = 0) -> str:
    """Nested, collapsible taxa with their counts; the upper ranks are open."""
    out = []
    for node in nodes[:CHILDREN]:
        species = f" · {node['species']} species" if node["children"] else ""
        text = f"{node['examples']:,} examples · {node['clips']:,} clips · {duration(node['hours'])}{species}"
        name = f'<b class="{node["rank"]}">{html.escape(node["name"])}</b> <small>{node["rank"]}</small>'
        name = f"{name} <span>{text}</span>"
        if node["children"]:
            opened = " open" if depth < 2 else ""
            out.append(f"<details{opened}><summary>{name}</summary>{tree(node['children'], depth + 1)}</details>")
        else:
            out.append(f'<div class="leaf">{name}</div>')
    if len(nodes) > CHILDREN:
        out.append(f'<div class="leaf"><span>and {len(nodes) - CHILDREN} more, in describe.json</span></div>')
    return "".join(out)
