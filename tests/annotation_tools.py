"""Recordings and annotation files written by tests of readers, and what is read from them."""

import pathlib
from typing import Any

import numpy as np
import soundfile

from nlm_jax.prepare.readers import registry
from nlm_jax.prepare.rejects import Report

RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)"


def sound(file: pathlib.Path, seconds: float = 3.0) -> None:
    """Writes noise at 16 kHz."""
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, np.random.default_rng(0).uniform(-0.3, 0.3, round(seconds * 16_000)), 16_000)


def read(path: pathlib.Path, kind: str = "auto", root: pathlib.Path | None = None) -> tuple[list[Any], Report]:
    """(name of the recording or part, answer) of each example, and what was reported."""
    report = Report()
    pairs = [(e.paths[0], e.text) for e in registry.read(path, kind, root=root, report=report)]
    return pairs, report


def write(folder: pathlib.Path, name: str, lines: list[str], *recordings: str) -> pathlib.Path:
    """Writes a table of `lines` and the recordings next to it; its path."""
    for recording in recordings:
        sound(folder / recording)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name
