"""Which examples share a row: row r is a pure function of (seed, r), so the place in the data is a single integer.

The stream is cut into windows of a fixed number of positions, and every window fills a fixed number of rows. The number
of positions is determined once, as the most that trial windows hold. Examples that their window cannot hold are carried
to the next one, which is filled with its own examples first; those that do not fit there either are dropped from this
epoch, and counted.

The size of an example is a triple: its tokens, clips and answer tokens.
"""

import collections
import dataclasses
import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from nlm_jax.core.errors import UserError
from nlm_jax.data.pack import fill_rows
from nlm_jax.data.shuffle import mix64

TRIAL_ROWS = 2048
"""Rows of the trial windows (3 to 16 windows), which must hold all of their examples."""
RESERVE = 0.99
"""Share of the largest number of examples that trial windows hold: other windows may hold fewer."""
CACHED_WINDOWS = 4
SizesOf = Callable[[Int[np.ndarray, "N"]], Int[np.ndarray, "N 3"]]


@dataclasses.dataclass(frozen=True)
class PlanWindow:
    """The plan of one window."""

    rows: list[list[int]]
    """Per row the stream positions of its examples."""
    carried: Int[np.ndarray, "I"]
    """Positions left to the next window."""
    dropped: Int[np.ndarray, "J"]
    """Positions carried in from the window before that do not fit here either."""
    used: Int[np.ndarray, "R 3"]
    """Tokens, clips and answer tokens in each row."""


class Placement(NamedTuple):
    """Examples and the rows they are placed in."""

    positions: Int[np.ndarray, "N"]
    sizes: Int[np.ndarray, "N 3"]
    row: Int[np.ndarray, "N"]
    """-1 if no row holds the example."""

    def select(self, mask: Bool[np.ndarray, "N"]) -> "Placement":
        """The examples that `mask` selects."""
        return Placement(self.positions[mask], self.sizes[mask], self.row[mask])


class Planner:
    """Plans the rows of a stream.

    Args:
      sizes_of: sizes of the examples at stream positions.
      capacity: tokens, clips and answer tokens of a row.
      window_rows: rows of a window.
      seed: of the order of rows.
    """

    def __init__(self, sizes_of: SizesOf, capacity: tuple[int, int, int], window_rows: int, seed: int):
        self._sizes_of, self._capacity = sizes_of, np.asarray(capacity, np.int64)
        self.window_rows, self._seed = window_rows, seed
        self._plans: collections.OrderedDict[int, PlanWindow] = collections.OrderedDict()
        self._last_placement: tuple[int, Placement] | None = None
        self._lock = threading.Lock()
        self.per_window = self._examples_per_window()

    def row(self, r: int) -> list[int]:
        """Stream positions of the examples in row `r`, in their order."""
        window, row = divmod(r, self.window_rows)
        return self.window(window).rows[row]

    def window(self, w: int) -> PlanWindow:
        """The plan of window `w`; the last few are cached."""
        with self._lock:
            if w not in self._plans:
                self._plans[w] = self._plan(w)
                while len(self._plans) > CACHED_WINDOWS:
                    self._plans.popitem(last=False)
            return self._plans[w]

    def report(self, windows: int = 2) -> dict[str, float]:
        """Shares of tokens, clips and answer slots in use, examples per row, and the share dropped (`lost`)."""
        plans = [self.window(w) for w in range(windows)]
        filled = np.mean([p.used.mean(axis=0) for p in plans], axis=0) / np.maximum(self._capacity, 1)
        return {
            "tokens": float(filled[0]),
            "clips": float(filled[1]),
            "answers": float(filled[2]),
            "examples_per_row": self.per_window / self.window_rows,
            "lost": sum(len(p.dropped) for p in plans) / (windows * self.per_window),
        }

    def _place(self, w: int) -> Placement:
        """The own examples of window `w` in empty rows. The last one is cached: it is the next call's window before."""
        if self._last_placement is None or self._last_placement[0] != w:
            positions = np.arange(w * self.per_window, (w + 1) * self.per_window, dtype=np.int64)
            sizes = self._sizes_of(positions)
            self._last_placement = w, Placement(positions, sizes, fill_rows(sizes, self._capacity, self.window_rows))
        return self._last_placement[1]

    def _plan(self, w: int) -> PlanWindow:
        leftover = self._leftover(w - 1)
        own = self._place(w)
        carried = own.positions[own.row < 0]
        own = own.select(own.row >= 0)
        used = np.zeros((self.window_rows, 3), np.int64)
        np.add.at(used, own.row, own.sizes)
        leftover = leftover._replace(row=fill_rows(leftover.sizes, self._capacity, self.window_rows, used))
        dropped = leftover.positions[leftover.row < 0]
        leftover = leftover.select(leftover.row >= 0)
        np.add.at(used, leftover.row, leftover.sizes)
        # Rows are filled largest first: their order is shuffled, so that every batch has examples of every size.
        key = mix64(np.asarray([self._seed], np.uint64))[0] ^ np.uint64(w)
        order = np.argsort(mix64(key ^ (np.arange(self.window_rows, dtype=np.uint64) << np.uint64(32))), kind="stable")
        shuffled = np.empty(self.window_rows, np.int64)
        shuffled[order] = np.arange(self.window_rows)
        rows: list[list[int]] = [[] for _ in range(self.window_rows)]
        for placed in (leftover, own):
            for position, row in zip(placed.positions.tolist(), shuffled[placed.row].tolist(), strict=True):
                rows[row].append(position)
        return PlanWindow(rows, carried, dropped, used[order])

    def _leftover(self, w: int) -> Placement:
        """The examples of window `w` that its rows do not hold; none before the first window."""
        if w < 0:
            return Placement(np.zeros(0, np.int64), np.zeros((0, 3), np.int64), np.zeros(0, np.int64))
        placement = self._place(w)
        return placement.select(placement.row < 0)

    def _examples_per_window(self) -> int:
        """The most examples (at least one a row) that the trial windows hold, less a reserve; by bisection."""
        low, trials = self.window_rows, min(16, max(3, TRIAL_ROWS // self.window_rows))
        mean = self._sizes_of(np.arange(4 * low, dtype=np.int64)).mean(axis=0)
        high = max(low, int((self._capacity / np.maximum(mean, 1e-9)).min() * low * 1.05))
        sizes = self._sizes_of(np.arange(trials * high, dtype=np.int64)) if high > low else None
        while high > low:
            middle = (low + high + 1) // 2
            windows = (sizes[w * middle : (w + 1) * middle] for w in range(trials))
            if all((fill_rows(window, self._capacity, self.window_rows) >= 0).all() for window in windows):
                low = middle
            else:
                high = middle - 1
            if high - low <= max(1, low // 200):  # closer than the reserve
                break
        return max(self.window_rows, int(low * RESERVE))


def check_fit(sizes: Int[np.ndarray, "N 3"], capacity: tuple[int, int, int], name: Callable[[int], str]) -> None:
    """Checks that every example fits an empty row.

    Args:
      sizes: of the examples.
      capacity: tokens, clips and answer tokens of a row.
      name: of an example, for the message.

    Raises:
      UserError: an example does not fit. Names the first one, their number, and the fields to raise.
    """
    over = sizes > np.asarray(capacity)
    if over.any():
        first, largest = int(np.flatnonzero(over.any(axis=1))[0]), sizes.max(axis=0)
        fields = [
            f"data.{field}={int(size)} (now {limit})"
            for field, size, limit in zip(("row_tokens", "row_clips", "row_answers"), largest, capacity, strict=True)
            if size > limit
        ]
        raise UserError(
            f"{name(first)}: longer than a row, as {int(over.any(axis=1).sum())} of {len(sizes)} examples are; "
            f"raise {', '.join(fields)}, or leave such examples out with data.skip_long=True"
        )
