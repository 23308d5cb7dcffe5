"""Pictures for pages without a plotting library: PNG heat maps and SVG charts that follow the page's colours."""

import base64
import html
import io
import math
import struct
import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
import soundfile
from jaxtyping import Float, UInt8

from nlm_jax.core.dims import SAMPLE_RATE

# Nine colours along matplotlib's "magma" (public domain, CC0), interpolated in between.
MAGMA = ("000004", "1c1044", "4f127b", "812581", "b5367a", "e55064", "fb8761", "fec287", "fcfdbf")


def magma(values: Float[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Maps values in [0, 1] to RGB colours."""
    anchors = np.array([[int(c[i : i + 2], 16) for i in (0, 2, 4)] for c in MAGMA], float)
    position = np.clip(values, 0, 1) * (len(anchors) - 1)
    left = np.minimum(position.astype(int), len(anchors) - 2)
    blend = (position - left)[..., None]
    return np.round(anchors[left] * (1 - blend) + anchors[left + 1] * blend).astype(np.uint8)


def png(pixels: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """An RGB image as a PNG file."""
    height, width, _ = pixels.shape

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(pixels))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")


def data_uri(content: bytes, kind: str) -> str:
    """File content of media type `kind` as a data: URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def spectrogram(mel: Float[np.ndarray, "frames bands"], height: int = 4) -> bytes:
    """PNG of log-mel features, low frequencies at the bottom; 60 dB below the loudest is black."""
    top = float(mel.max())
    scaled = (mel - (top - 6.0)) / 6.0  # log10 power: 6 = 60 dB
    return png(np.repeat(magma(scaled.T[::-1]), height, axis=0))


def player(wave: Float[np.ndarray, "T"], kind: Literal["wav", "mpeg"] = "wav") -> str:
    """An audio element with the clip embedded, normalized in loudness; "mpeg" (MP3) takes a sixth of the bytes."""
    buffer = io.BytesIO()
    loud = wave / max(1e-6, float(np.abs(wave).max())) * 0.7
    form = {"format": "WAV", "subtype": "PCM_16"} if kind == "wav" else {"format": "MP3"}
    soundfile.write(buffer, loud, SAMPLE_RATE, **form)
    return f'<audio controls preload="none" src="{data_uri(buffer.getvalue(), f"audio/{kind}")}"></audio>'


def label(x: float, y: float, text: str, style: str = "tick", anchor: str = "middle", turn: int = 0) -> str:
    """A piece of text in an SVG."""
    position = f'transform="translate({x:.1f},{y:.1f}) rotate({turn})"' if turn else f'x="{x:.1f}" y="{y:.1f}"'
    return f'<text class="{style}" {position} text-anchor="{anchor}">{html.escape(text)}</text>'


def rule(x1: float, y1: float, x2: float, y2: float, style: str = "grid") -> str:
    """A straight line in an SVG."""
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def svg(width: float, height: float, parts: Sequence[str], title: str, style: str = "") -> str:
    """An SVG as wide as the page allows."""
    box = f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{html.escape(title)}"'
    return f'<svg class="{style}" {box}>{"".join(parts)}</svg>'


def line_chart(curves: dict[str, tuple[Sequence[float], Sequence[float]]], x_label: str, y_label: str) -> str:
    """SVG of curves name -> (x, y) on one pair of axes; the y axis starts at 0."""
    width, height, left, bottom = 460, 250, 46, 36
    xs = [x for curve in curves.values() for x in curve[0]] or [0.0]
    ys = [y for curve in curves.values() for y in curve[1]] or [1.0]
    x_max, y_max = max(xs) or 1.0, nice(max(ys))

    def point(x: float, y: float) -> tuple[float, float]:
        share = min(y, y_max) / y_max
        return left + (width - left - 12) * x / x_max, height - bottom - (height - bottom - 14) * share

    out = []
    for i in range(5):
        (x, _), (_, y) = point(x_max * i / 4, 0), point(0, y_max * i / 4)
        out += [rule(left, y, width - 12, y), label(left - 6, y + 4, f"{y_max * i / 4:.3g}", anchor="end")]
        out.append(label(x, height - bottom + 16, f"{x_max * i / 4:.0f}" if x_max > 4 else f"{x_max * i / 4:.2g}"))
    for number, (name, (x, y)) in enumerate(curves.items()):
        points = " ".join("{:.1f},{:.1f}".format(*point(a, b)) for a, b in zip(x, y, strict=True))
        out.append(f'<polyline class="curve c{number % 2}" points="{points}"/>')
        out.append(label(width - 16, 28 + 16 * number, name, f"legend c{number % 2}", "end"))
    out.append(label((left + width) / 2, height - 4, x_label))
    return svg(width, height, out, f"{y_label} by {x_label}")


def nice(value: float) -> float:
    """The smallest of 1, 2, 3, 4, 5, 8 times a power of ten that is at least `value`: the end of an axis."""
    if value <= 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 3, 4, 5, 8, 10) if step * power >= value * 0.999)


def confusion_chart(rows: Sequence[str], columns: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """SVG of a confusion matrix: rows are expected answers, columns given answers, shades the share of the row."""
    cell, left, top = 25, 190, 150
    out = [
        label(left + cell * (j + 0.5) + 4, top - 8, name, anchor="start", turn=-60) for j, name in enumerate(columns)
    ]
    for i, (name, line) in enumerate(zip(rows, counts, strict=True)):
        y, total = top + cell * i, max(1, sum(line))
        out.append(label(left - 8, y + cell * 0.65, name, anchor="end"))
        for j, count in enumerate(line):
            kind, x = "hit" if columns[j] == name else "miss", left + cell * j
            shade = f'style="fill-opacity:{0.04 + 0.9 * count / total:.2f}"'
            size = f'width="{cell - 2}" height="{cell - 2}" rx="3"'
            out.append(f'<rect class="{kind}" {shade} x="{x + 1}" y="{y + 1}" {size}/>')
            if count:
                out.append(label(x + cell / 2, y + cell * 0.66, str(count), "count"))
    width, height = left + cell * len(columns) + 60, top + cell * len(rows) + 8
    return svg(width, height, out, "confusion matrix", "wide")


def bars(rows: Sequence[tuple[str, float, float, float, dict[str, float]]]) -> str:
    """SVG of accuracies: per row a name, the value, its interval, and the values of other systems by name."""
    left, width, step = 190, 640, 34
    height = step * len(rows) + 40
    at = lambda share: left + (width - left - 20) * share  # noqa: E731
    out = []
    for i in range(6):
        out += [rule(at(i / 5), 8, at(i / 5), height - 30), label(at(i / 5), height - 12, f"{20 * i}%")]
    for i, (name, value, low, high, marks) in enumerate(rows):
        y = 12 + step * i
        long = max(0.0, at(min(value, 1.0)) - left)
        out.append(label(left - 10, y + 16, name, "name", "end"))
        out.append(f'<rect class="bar" x="{left}" y="{y + 3}" width="{long:.1f}" height="18" rx="3"/>')
        out.append(rule(at(low), y + 12, at(high), y + 12, "whisker"))
        for system, share in marks.items():
            out.append(rule(at(share), y - 1, at(share), y + 25, f"mark {system.split()[0]}"))
    return svg(width, height, out, "accuracy by task", "wide")
