"""Pictures for the report without a plotting library: PNG heat maps and SVG charts that follow the page's colours."""

import base64
import html
import io
import math
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import soundfile
from jaxtyping import Float, UInt8

from nlm_jax.core.dims import SAMPLE_RATE

# Nine colours along matplotlib's "magma" (public domain, CC0), interpolated in between.
MAGMA = ("000004", "1c1044", "4f127b", "812581", "b5367a", "e55064", "fb8761", "fec287", "fcfdbf")


def magma(values: Float[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Values in [0, 1] to colours."""
    anchors = np.array([[int(c[i : i + 2], 16) for i in (0, 2, 4)] for c in MAGMA], float)
    place = np.clip(values, 0, 1) * (len(anchors) - 1)
    left = np.minimum(place.astype(int), len(anchors) - 2)
    blend = (place - left)[..., None]
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
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def spectrogram(mel: Float[np.ndarray, "frames bands"], height: int = 4) -> bytes:
    """PNG of log-mel features, low frequencies at the bottom; 60 dB below the loudest is black."""
    top = float(mel.max())
    scaled = (mel - (top - 6.0)) / 6.0  # log10 power: 6 = 60 dB
    return png(np.repeat(magma(scaled.T[::-1]), height, axis=0))


def player(wave: Float[np.ndarray, "T"]) -> str:
    """An audio element with the clip inside, loud enough to hear."""
    buffer = io.BytesIO()
    soundfile.write(buffer, wave / max(1e-6, float(np.abs(wave).max())) * 0.7, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return f'<audio controls preload="none" src="{data_uri(buffer.getvalue(), "audio/wav")}"></audio>'


def line_chart(curves: dict[str, tuple[Sequence[float], Sequence[float]]], x_label: str, y_label: str) -> str:
    """SVG of curves name -> (x, y) on one pair of axes; the y axis starts at 0."""
    width, height, left, bottom = 460, 250, 46, 36
    xs = [x for curve in curves.values() for x in curve[0]] or [0.0]
    ys = [y for curve in curves.values() for y in curve[1]] or [1.0]
    x_max, y_max = max(xs) or 1.0, nice(max(ys))
    at = lambda x, y: (  # noqa: E731
        left + (width - left - 12) * x / x_max,
        height - bottom - (height - bottom - 14) * min(y, y_max) / y_max,
    )
    out = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(y_label)} by {html.escape(x_label)}">']
    for i in range(5):
        _, y = at(0, y_max * i / 4)
        out.append(f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{width - 12}" y2="{y:.1f}"/>')
        out.append(f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{y_max * i / 4:.3g}</text>')
    for i in range(5):
        x, _ = at(x_max * i / 4, 0)
        out.append(f'<text class="tick" x="{x:.1f}" y="{height - bottom + 16}" text-anchor="middle">{x_max * i / 4:.0f}</text>')
    for number, (name, (x, y)) in enumerate(curves.items()):
        points = " ".join("{:.1f},{:.1f}".format(*at(a, b)) for a, b in zip(x, y, strict=True))
        out.append(f'<polyline class="curve c{number % 4}" points="{points}"/>')
        out.append(f'<text class="legend c{number % 4}" x="{width - 16}" y="{28 + 16 * number}" text-anchor="end">{html.escape(name)}</text>')
    out.append(f'<text class="tick" x="{(left + width) / 2:.0f}" y="{height - 4}" text-anchor="middle">{html.escape(x_label)}</text>')
    return "".join(out) + "</svg>"


def nice(value: float) -> float:
    """The next of 1, 2, 3, 4, 5, 8 times a power of ten."""
    if value <= 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 3, 4, 5, 8, 10) if step * power >= value * 0.999)


def confusion_chart(rows: Sequence[str], columns: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """SVG matrix: right answers down, given answers across, the shade is the share of the row."""
    cell, left, top = 25, 190, 150
    width, height = left + cell * len(columns) + 8, top + cell * len(rows) + 8
    out = [f'<svg class="wide" viewBox="0 0 {width} {height}" role="img" aria-label="confusion matrix">']
    for j, name in enumerate(columns):
        x = left + cell * (j + 0.5)
        out.append(f'<text class="tick" transform="translate({x + 4:.1f},{top - 8}) rotate(-60)">{html.escape(name)}</text>')
    for i, (name, line) in enumerate(zip(rows, counts, strict=True)):
        y, total = top + cell * i, max(1, sum(line))
        out.append(f'<text class="tick" x="{left - 8}" y="{y + cell * 0.65:.1f}" text-anchor="end">{html.escape(name)}</text>')
        for j, count in enumerate(line):
            right = j < len(rows) and columns[j] == name
            shade = f'style="fill-opacity:{0.04 + 0.9 * count / total:.2f}"'
            out.append(f'<rect class="{"hit" if right else "miss"}" {shade} x="{left + cell * j + 1}" y="{y + 1}" width="{cell - 2}" height="{cell - 2}" rx="3"/>')
            if count:
                out.append(f'<text class="count" x="{left + cell * (j + 0.5):.1f}" y="{y + cell * 0.66:.1f}" text-anchor="middle">{count}</text>')
    return "".join(out) + "</svg>"


def bars(rows: Sequence[tuple[str, float, float, float, dict[str, float]]]) -> str:
    """SVG of accuracies: per row a name, the value with its interval, and marks of other systems."""
    left, width, step = 190, 640, 34
    height = step * len(rows) + 40
    at = lambda share: left + (width - left - 20) * share  # noqa: E731
    out = [f'<svg class="wide" viewBox="0 0 {width} {height}" role="img" aria-label="accuracy by task">']
    for i in range(6):
        x = at(i / 5)
        out.append(f'<line class="grid" x1="{x:.1f}" y1="8" x2="{x:.1f}" y2="{height - 30}"/>')
        out.append(f'<text class="tick" x="{x:.1f}" y="{height - 12}" text-anchor="middle">{20 * i}%</text>')
    for i, (name, value, low, high, marks) in enumerate(rows):
        y = 12 + step * i
        out.append(f'<text class="name" x="{left - 10}" y="{y + 16}" text-anchor="end">{html.escape(name)}</text>')
        out.append(f'<rect class="bar" x="{left}" y="{y + 3}" width="{max(0.0, at(value) - left):.1f}" height="18" rx="3"/>')
        out.append(f'<line class="whisker" x1="{at(low):.1f}" y1="{y + 12}" x2="{at(high):.1f}" y2="{y + 12}"/>')
        for number, share in enumerate(marks.values()):
            out.append(f'<line class="mark m{number}" x1="{at(share):.1f}" y1="{y - 1}" x2="{at(share):.1f}" y2="{y + 25}"/>')
    return "".join(out) + "</svg>"
