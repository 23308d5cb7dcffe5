"""Selections over several files, as Raven opens them: their times count through all files, one after the other.

Examples:
    a.wav lasts 60 s                    b.wav begins at 60 s
    selection in b.wav at 75 s          is at 15 s of b.wav
"""

import pathlib
from collections.abc import Mapping, Sequence

from nlm_jax.audio import formats
from nlm_jax.core.errors import UserError
from nlm_jax.prepare import audio_sources

TOLERANCE = 0.05
"""Seconds by which a selection may begin outside of its file, for rounding."""


def seconds_before(selections: Sequence[tuple[str, float, float]], root: pathlib.Path) -> dict[str, float | str]:
    """Seconds that times count before each file.

    The files follow each other in the order of their times, or all files of the folder do in that of their names; the
    first order that all times fit is taken. If they fit neither, but each its own file, times count from the beginning
    of each.

    Args:
      selections: (file, start, end) of each in seconds.
      root: folder of relative names.

    Returns:
      File -> seconds, or the reason why they are unknown; nothing for a single file.
    """
    order = list(dict.fromkeys(file for file, _, _ in sorted(selections, key=lambda selection: selection[1])))
    if len(order) < 2:
        return {}
    folder = (root / order[0]).parent
    by_name = [audio_sources.name_of(path, root) for path in sorted(folder.glob("*")) if formats.is_readable(path)]
    lengths = {file: _length(root, file) for file in {*order, *by_name}}
    for starts in (_starts(order, lengths), _starts(by_name, lengths), dict.fromkeys(order, 0.0)):
        if _fits(selections, starts, lengths):
            return dict(starts)
    reason = (
        f"the times count through {len(order)} files, and their lengths do not tell where this one begins; "
        "export the table with the column File Offset (s)"
    )
    return dict.fromkeys(order, reason)


def _starts(files: Sequence[str], lengths: Mapping[str, float]) -> dict[str, float]:
    """Seconds at which each file begins if they follow each other."""
    starts, total = {}, 0.0
    for file in files:
        starts[file] = total
        total += lengths[file]
    return starts


def _fits(
    selections: Sequence[tuple[str, float, float]], starts: Mapping[str, float], lengths: Mapping[str, float]
) -> bool:
    """Whether every selection begins within its file; none does in one of unknown length."""
    return all(
        file in starts and -TOLERANCE <= start - starts[file] < lengths[file] + TOLERANCE
        for file, start, _ in selections
    )


def _length(root: pathlib.Path, file: str) -> float:
    """Seconds of a recording; NaN if it cannot be read, so that no selection fits in it or in the files after it."""
    try:
        return audio_sources.seconds(root, file)
    except UserError:
        return float("nan")
