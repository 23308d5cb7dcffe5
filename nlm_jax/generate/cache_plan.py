"""Sizes of the memory that an engine allocates per row: slots of the KV cache, and new tokens."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from nlm_jax.generate.prompts import BUCKET
from nlm_jax.generate.request import Request
from nlm_jax.generate.shapes import rounded_up

TOKEN_BUCKET = 32
"""The number of new tokens that memory is allocated for is rounded up to a multiple of this: few shapes to compile."""


class RowSize(NamedTuple):
    """Memory of one row."""

    slots: int
    """Slots of the KV cache."""
    max_tokens: int
    """New tokens."""


@dataclasses.dataclass(frozen=True)
class CachePlan:
    """How much memory rows need. Most answers are short: the cache grows when one is long."""

    beams: int
    reserve: int = 0
    """Slots that every row has from the start."""

    def needed(self, request: Request, tokens: int) -> int:
        """Cache slots that a request fills with `tokens` new tokens."""
        return len(request.prompt) + self.beams * tokens

    def admit(self, group: Sequence[Request], waiting: Iterable[Request], size: RowSize | None) -> RowSize:
        """The size with which `group` can be prefilled and start decoding.

        Args:
          group: the requests that get rows.
          waiting: those that will follow; memory for their new tokens is allocated at once.
          size: the present one, below which it does not shrink; None = nothing is allocated.
        """
        slots = max(
            max(rounded_up(len(r.prompt), BUCKET), self.needed(r, min(r.options.max_new_tokens, TOKEN_BUCKET)))
            for r in group
        )
        return self._at_least(slots, max(r.options.max_new_tokens for r in (*group, *waiting)), size)

    def grow(self, unfinished: Iterable[Request], size: RowSize) -> RowSize:
        """The size after the cache of a row is full: twice the slots, at most what the longest answer can need."""
        most = max(self.needed(r, r.options.max_new_tokens) for r in unfinished)
        return self._at_least(min(2 * size.slots, most), size.max_tokens, size)

    def _at_least(self, slots: int, max_tokens: int, size: RowSize | None) -> RowSize:
        slots, max_tokens = max(rounded_up(slots, BUCKET), self.reserve), rounded_up(max_tokens, TOKEN_BUCKET)
        return RowSize(slots, max_tokens) if size is None else RowSize(*map(max, size, (slots, max_tokens)))
