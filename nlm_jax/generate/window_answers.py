"""Answers about every window of one long recording."""

import itertools
import pathlib
from collections.abc import Callable
from typing import Any

from nlm_jax.audio.config import AudioConfig
from nlm_jax.core.errors import NotFinite, UserError
from nlm_jax.core.files import printable
from nlm_jax.generate.recording_windows import read_windows, window_and_hop, windows_of
from nlm_jax.generate.request import Unanswered

BATCHES = 8
"""Batches of windows in one call, so that finished rows can be refilled."""


def answer_windows(
    generate: Callable[..., list],
    cfg: AudioConfig,
    recording: pathlib.Path,
    query: str,
    window: float | None = None,
    hop: float | None = None,
    **options: Any,
) -> list[tuple[float, float, Any]]:
    """The result of `NatureLM.generate_windows`; arguments and errors are the same.

    Args:
      generate: `NatureLM.generate`.
      cfg: of the checkpoint.
      recording, query, window, hop, options: those of `NatureLM.generate_windows`.
    """
    window, hop = window_and_hop(window, hop, cfg.seconds)
    windows = read_windows([windows_of(recording, window, hop)], cfg.quality)
    size = BATCHES * max(1, options.get("batch_size", 8))  # `generate` refuses 0
    results: list[tuple[float, float, Any]] = []
    while group := list(itertools.islice(windows, size)):
        if reason := next((reason for _, wave, reason in group if wave is None), ""):
            raise UserError(reason)
        try:
            answers = generate([wave for _, wave, _ in group], [query] * len(group), **options)
        except Unanswered as error:
            start = group[error.query][0].start
            raise NotFinite(f"{printable(recording)} at {start:g} s: {error.reason}") from error
        results += [(w.start, w.end, answer) for (w, _, _), answer in zip(group, answers, strict=True)]
    return results
