"""Draws the figures of the documentation: `python docs/figures/draw.py` writes them next to this file.

`architecture.svg` is drawn from the list below, `packages.svg` from the import statements of the package itself, and
`stream.svg` from the rows that the package plans for a corpus of seven examples.
"""

import ast
import html
import pathlib

import numpy as np

from nlm_jax.data.planner import Planner
from nlm_jax.data.train_stream import Group, TrainStream

FIGURES = pathlib.Path(__file__).resolve().parent
PACKAGE = FIGURES.parents[1] / "nlm_jax"
FONT = "font-family='system-ui, sans-serif'"
FROZEN, TRAINED, DATA = "#dbe4ee", "#fbd9a5", "#f4f4f4"
PURPOSE = {
    "core": "config, tree, files, errors",
    "mesh": "axes, sharding rules, hosts",
    "nn": "linear + LoRA, attention, int8",
    "audio": "decoding, filter bank, augmentation",
    "page": "HTML pages and pictures",
    "data": "shards, mixture, packing, batches",
    "prepare": "readers, tasks, shards written",
    "describe": "what prepared data holds",
    "models": "BEATs, Q-Former, Llama",
    "convert": "checkpoints in and out",
    "generate": "decoding, engine, long recordings",
    "parts": "encoder, Q-Former, Llama alone",
    "train": "two stages, steps, checkpoints",
    "evaluate": "BEANS-Zero, held-out scores",
    "plan": "memory and speed before a run",
    "serve": "HTTP and the web page",
    "demo": "the whole path on synthetic sound",
}


# --- SVG ----------------------------------------------------------------------------------------------------------


def box(x: float, y: float, width: float, height: float, title: str, lines: tuple[str, ...], fill: str) -> str:
    """A rounded box with a bold title and smaller lines below it; all sizes in pixels."""
    parts = [f"<rect x='{x}' y='{y}' width='{width}' height='{height}' rx='8' fill='{fill}' stroke='#555'/>"]
    top = y + height / 2 - 8 * len(lines) + 5
    middle = x + width / 2
    parts.append(text(middle, top, title, 15, "bold"))
    parts += [text(middle, top + 17 * (n + 1), line, 12) for n, line in enumerate(lines)]
    return "".join(parts)


def text(x: float, y: float, content: str, size: int, weight: str = "normal", anchor: str = "middle") -> str:
    """One line of text around (or from) a point."""
    style = f"{FONT} font-size='{size}' font-weight='{weight}' text-anchor='{anchor}' fill='#222'"
    return f"<text x='{x}' y='{y}' {style}>{html.escape(content)}</text>"


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """A line with a head at its second point."""
    return f"<line x1='{x1}' y1='{y1}' x2='{x2}' y2='{y2}' stroke='#555' stroke-width='1.5' marker-end='url(#head)'/>"


def picture(width: int, height: int, parts: list[str]) -> str:
    """The SVG document of some elements on white."""
    head = (
        "<marker id='head' viewBox='0 0 10 10' refX='9' refY='5' markerWidth='7' markerHeight='7' orient='auto'>"
        "<path d='M0,0 L10,5 L0,10 z' fill='#555'/></marker>"
    )
    background = f"<rect width='{width}' height='{height}' fill='white'/>"
    body = "\n".join(parts)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}'>"
        f"<defs>{head}</defs>\n{background}\n{body}\n</svg>\n"
    )


# --- Figures ------------------------------------------------------------------------------------------------------


def architecture() -> str:
    """The model from waveform to answer, with the shapes of one 10-second clip at full size."""
    steps = (
        ("Waveform", ("16 kHz mono", "160,000 samples"), DATA),
        ("BEATs", ("128 mels, 16×16 patches", "12 layers → 496 × 768"), TRAINED),
        ("Window Q-Former", ("17 tokens a window", "1 query each → 29 × 768"), TRAINED),
        ("Projection", ("768 → 4096", "29 audio vectors"), TRAINED),
    )
    parts, width, gap = [], 190, 36
    for n, (title, lines, fill) in enumerate(steps):
        x = 20 + n * (width + gap)
        parts.append(box(x, 30, width, 90, title, lines, fill))
        if n:
            parts.append(arrow(x - gap, 75, x, 75))
    last = 20 + 3 * (width + gap) + width / 2
    parts.append(
        box(20, 190, 416, 70, "Prompt", ("user text with <AudioHere>, chat template, token embeddings",), DATA)
    )
    parts.append(box(472, 190, 416, 70, "Llama 3.1-8B", ("frozen base + LoRA r = 32 on q, k, v, o",), FROZEN))
    parts.append(arrow(436, 225, 472, 225))
    parts.append(arrow(last, 120, last, 190))
    parts.append(box(472, 300, 416, 50, "Answer", ("text",), DATA))
    parts.append(arrow(680, 260, 680, 300))
    parts.append(f"<rect x='20' y='308' width='16' height='16' fill='{TRAINED}' stroke='#555'/>")
    parts.append(text(44, 321, "trained", 12, anchor="start"))
    parts.append(f"<rect x='120' y='308' width='16' height='16' fill='{FROZEN}' stroke='#555'/>")
    parts.append(text(144, 321, "frozen, with trained LoRA matrices", 12, anchor="start"))
    return picture(910, 370, parts)


def packages() -> str:
    """Which package may build on which: every package is one level above the highest that it imports."""
    below = {name: imported(name) for name in PURPOSE}
    level: dict[str, int] = {}

    def level_of(name: str) -> int:
        if name not in level:
            level[name] = 1 + max((level_of(other) for other in below[name]), default=-1)
        return level[name]

    rows: dict[int, list[str]] = {}
    for name in PURPOSE:
        rows.setdefault(level_of(name), []).append(name)
    parts, top = [], max(rows)
    for number, names in rows.items():
        y = 20 + (top - number) * 62
        for n, name in enumerate(sorted(names)):
            x = 455 - len(names) * 120 + n * 240
            parts.append(box(x + 5, y, 230, 48, name, (PURPOSE[name],), DATA))
    parts.append(text(455, 30 + (top + 1) * 62, "a package imports only packages below it", 12))
    return picture(910, 50 + (top + 1) * 62, parts)


def imported(name: str) -> set[str]:
    """The other packages of the figure that the files of one import."""
    direct = set()
    for file in (PACKAGE / name).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nlm_jax"):
                modules = [node.module] if "." in node.module else [f"nlm_jax.{alias.name}" for alias in node.names]
                direct.update(module.split(".")[1] for module in modules)
    return (direct & set(PURPOSE)) - {name}


NEEDS = np.array([(18, 1, 3), (30, 1, 5), (22, 1, 4), (40, 2, 6), (26, 1, 2), (34, 2, 5), (20, 1, 3)])
"""Tokens, clips and answer tokens of each example of the corpus in `stream.svg`."""
CAPACITY, WINDOW_ROWS, ROWS, SHOWN_ROW = (64, 3, 12), 4, 2, 2
"""Of a row of that figure; rows planned together, rows of a batch, and the row that is drawn in detail."""
COLOURS = ("#fbd9a5", "#cfe3c8", "#dbe4ee", "#f3cfd1", "#e3d6ee", "#f6eeb4", "#cdeaea")


def stream() -> str:
    """The index spaces of the training data: positions, examples, windows, rows, batches, and one row in detail."""
    order = TrainStream([Group("all", 1.0, len(NEEDS))], seed=0)
    planner = Planner(lambda positions: NEEDS[order.lookup(positions)], CAPACITY, WINDOW_ROWS, seed=0)
    count, left, cell = 2 * planner.per_window, 120, 62
    examples = order.lookup(np.arange(count)).tolist()
    parts = []
    for y, label in ((45, "position"), (85, "example"), (117, "window"), (185, "row"), (247, "batch")):
        parts.append(text(10, y, label, 14, "bold", "start"))
    for position, example in enumerate(examples):
        x = left + position * cell
        parts += [
            square(x, 25, cell, 30, str(position), "white"),
            square(x, 65, cell, 30, str(example), COLOURS[example]),
        ]
    for n in range(2):
        x, width = left + n * planner.per_window * cell, planner.per_window * cell
        parts.append(square(x + 2, 101, width - 4, 24, f"window {n}: {planner.per_window} positions", DATA))
        parts.append(arrow(x + width / 2, 125, x + width / 2, 150))
    wide = count * cell / (2 * WINDOW_ROWS)
    for row in range(2 * WINDOW_ROWS):
        x, at = left + row * wide, 0.0
        parts.append(square(x + 2, 152, wide - 4, 24, f"row {row}", "white"))
        for position in planner.row(row):
            example = examples[position]
            width = (wide - 4) * NEEDS[example][0] / CAPACITY[0]
            parts.append(square(x + 2 + at, 178, width, 30, f"{position}", COLOURS[example]))
            at += width
    for batch in range(2 * WINDOW_ROWS // ROWS):
        parts.append(square(left + batch * ROWS * wide + 2, 230, ROWS * wide - 4, 26, f"batch {batch}", DATA))
    parts += row_in_detail(planner.row(SHOWN_ROW), examples, left, count * cell)
    return picture(left + count * cell + 20, 490, parts)


def row_in_detail(positions: list[int], examples: list[int], left: float, width: float) -> list[str]:
    """The row's tokens, clips and answer slots, each as long as the row's capacity."""
    parts = [text(left, 300, f"row {SHOWN_ROW} in detail", 14, "bold", "start")]
    for kind, (name, y) in enumerate((("tokens", 320), ("clips", 370), ("answers", 420))):
        unit, at = width / CAPACITY[kind], 0
        parts.append(text(10, y + 20, name, 14, "bold", "start"))
        for segment, position in enumerate(positions, start=1):
            example = examples[position]
            need = int(NEEDS[example][kind])
            label = f"segment {segment}: {need} of {CAPACITY[kind]}"
            parts.append(square(left + at * unit, y, need * unit, 32, label, COLOURS[example]))
            at += need
        parts.append(square(left + at * unit, y, (CAPACITY[kind] - at) * unit, 32, "padding", "white"))
    return parts


def square(x: float, y: float, width: float, height: float, label: str, fill: str) -> str:
    """A cell with its label in the middle."""
    cell = f"<rect x='{x:.1f}' y='{y}' width='{width:.1f}' height='{height}' fill='{fill}' stroke='#555'/>"
    return cell + text(round(x + width / 2, 1), y + height / 2 + 4, label, 12)


def main() -> None:
    """Writes every figure."""
    for name, content in (("architecture", architecture()), ("packages", packages()), ("stream", stream())):
        (FIGURES / f"{name}.svg").write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
