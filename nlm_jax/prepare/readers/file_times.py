"""Selections over several files, as Raven opens them: their times count through all files, one after the other."""

import pathlib
from collections.abc import Mapping, Sequence

from nlm_jax.audio import formats
from nlm_jax.core.errors import UserError
from nlm_jax.prepare import audio_sources

SLACK = 0.05
"""Seconds by which a selection may begin outside of its file, for rounding."""


def before(spans: Sequence[tuple[str, float, float]], root: pathlib.Path) -> dict[str, float | str]:
    """Seconds that times count before each file, or why nobody can tell.

    The files follow each other in the order of their times, or it is all files of the folder by name that do, whichever
    the times fit. If they fit neither, and each its own file, they count from the beginning of each.

    Args:
      spans: (file, start, end) of every selection in seconds.
      root: folder of relative names.
    """
    order = list(dict.fromkeys(file for file, _, _ in sorted(spans, key=lambda span: span[1])))
    if len(order) < 2:
        return {}
    folder = (root / order[0]).parent
    beside = [audio_sources.name_of(path, root) for path in sorted(folder.glob("*")) if formats.is_readable(path)]
    lengths = {file: _length(root, file) for file in {*order, *beside}}
    for starts in (_starts(order, lengths), _starts(beside, lengths), dict.fromkeys(order, 0.0)):
        if _fit(spans, starts, lengths):
            return dict(starts)
    reason = (
        f"the times count through {len(order)} files, and their lengths do not tell where this one begins; "
        "export the table with the column File Offset (s)"
    )
    return dict.fromkeys(order, reason)


def _starts(files: Sequence[str], lengths: Mapping[str, float]) -> dict[str, float]:
    """Where each file begins if they follow each other."""
    starts, total = {}, 0.0
    for file in files:
        starts[file] = total
        total += lengths[file]
    return starts


def _fit(spans: Sequence[tuple[str, float, float]], starts: Mapping[str, float], lengths: Mapping[str, float]) -> bool:
    """Whether every selection begins within its file; none does in one of unknown length."""
    return all(file in starts and -SLACK <= start - starts[file] < lengths[file] + SLACK for file, start, _ in spans)


def _length(root: pathlib.Path, file: str) -> float:
    """Seconds of a recording; not a number if it cannot be read, so that nothing fits it or what follows it."""
    try:
        return audio_sources.seconds(root, file)
    except UserError:
        return float("nan")
