"""Which examples share a row: row r is a pure function of (seed, r), so a position in the data is one integer.

The stream is cut into windows of a fixed number of examples, and every window fills a fixed number of rows. The number
of examples is found once, as the most that trial windows hold. An example that its window cannot hold moves to the
next one, whose plan is made without it first; only where that is full too is it left out of this pass, and counted.
"""

import collections
import dataclasses
import threading
from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from nlm_jax.core.errors import UserError
from nlm_jax.data.pack import fill_rows
from nlm_jax.data.shuffle import mix64

TRIAL_ROWS = 2048  # rows of the trial windows (3 to 16 of them) that must come out without a remainder
RESERVE = 0.99  # of that number, for windows that were not tried
Needs = Callable[[Int[np.ndarray, "N"]], Int[np.ndarray, "N 3"]]


@dataclasses.dataclass(frozen=True)
class Window:
    """The plan of one window."""

    rows: list[list[int]]
    """Per row the stream positions of its examples."""
    carried: Int[np.ndarray, "I"]
    """Positions left to the next window."""
    lost: Int[np.ndarray, "J"]
    """Positions carried in that found no room either."""
    used: Int[np.ndarray, "R 3"]
    """Tokens, clips and answer tokens in each row."""


class Planner:
    """Plans rows of `capacity` (tokens, clips, answer tokens) over a stream; `needs(positions)` counts per position."""

    def __init__(self, needs: Needs, capacity: tuple[int, int, int], window_rows: int, seed: int):
        self._needs, self._capacity = needs, np.asarray(capacity, np.int64)
        self.window_rows, self._seed = window_rows, seed
        self._cache: collections.OrderedDict[int, Window] = collections.OrderedDict()
        self._last: tuple[int, tuple] = (-1, ())
        self._lock = threading.Lock()
        self.per_window = self._examples_per_window()

    def row(self, r: int) -> list[int]:
        """Stream positions of the examples in row `r`, in their order."""
        window, at = divmod(r, self.window_rows)
        return self.window(window).rows[at]

    def window(self, w: int) -> Window:
        """The plan of window `w`; the last few are kept."""
        with self._lock:
            if w not in self._cache:
                self._cache[w] = self._plan(w)
                while len(self._cache) > 4:
                    self._cache.popitem(last=False)
            return self._cache[w]

    def report(self, windows: int = 2) -> dict[str, float]:
        """Filled shares of tokens, clips and answer slots, examples per row, and the share left out, over `windows`."""
        plans = [self.window(w) for w in range(windows)]
        filled = np.mean([p.used.mean(axis=0) for p in plans], axis=0) / np.maximum(self._capacity, 1)
        return {
            "tokens": float(filled[0]),
            "clips": float(filled[1]),
            "answers": float(filled[2]),
            "examples_per_row": self.per_window / self.window_rows,
            "lost": sum(len(p.lost) for p in plans) / (windows * self.per_window),
        }

    def _alone(self, w: int):
        """Positions, needs and rows of window `w` without what the one before leaves over; the last one is kept."""
        if self._last[0] == w:
            return self._last[1]
        positions = np.arange(w * self.per_window, (w + 1) * self.per_window, dtype=np.int64)
        needs = self._needs(positions)
        self._last = w, (positions, needs, fill_rows(needs, self._capacity, self.window_rows))
        return self._last[1]

    def _plan(self, w: int) -> Window:
        before, its_needs, its_row = self._alone(max(0, w - 1))
        positions, needs, row = self._alone(w)
        carried, held = positions[row < 0], row >= 0
        positions, needs, row = positions[held], needs[held], row[held]
        used = np.zeros((self.window_rows, 3), np.int64)
        np.add.at(used, row, needs)
        lost = positions[:0]
        if w:
            before, its_needs = before[its_row < 0], its_needs[its_row < 0]
            extra = fill_rows(its_needs, self._capacity, self.window_rows, used)
            lost = before[extra < 0]
            positions = np.concatenate([before[extra >= 0], positions])
            row = np.concatenate([extra[extra >= 0], row])
            np.add.at(used, extra[extra >= 0], its_needs[extra >= 0])
        # Spreading sorts by size: shuffle the rows, so that every batch sees every size.
        key = mix64(np.asarray([self._seed], np.uint64))[0] ^ np.uint64(w)
        order = np.argsort(mix64(key ^ (np.arange(self.window_rows, dtype=np.uint64) << np.uint64(32))), kind="stable")
        place = np.empty(self.window_rows, np.int64)
        place[order] = np.arange(self.window_rows)
        rows: list[list[int]] = [[] for _ in range(self.window_rows)]
        for position, r in zip(positions.tolist(), place[row].tolist(), strict=True):
            rows[r].append(position)
        return Window(rows, carried, lost, used[order])

    def _examples_per_window(self) -> int:
        """The largest count (at least one a row) that the trial windows hold, less a reserve. Found by bisection."""
        low, trials = self.window_rows, min(16, max(3, TRIAL_ROWS // self.window_rows))
        mean = self._needs(np.arange(4 * low, dtype=np.int64)).mean(axis=0)
        high = max(low, int((self._capacity / np.maximum(mean, 1e-9)).min() * low * 1.05))
        needs = self._needs(np.arange(trials * high, dtype=np.int64)) if high > low else None
        while high > low:
            middle = (low + high + 1) // 2
            windows = (needs[w * middle : (w + 1) * middle] for w in range(trials))
            if all((fill_rows(window, self._capacity, self.window_rows) >= 0).all() for window in windows):
                low = middle
            else:
                high = middle - 1
            if high - low <= max(1, low // 200):  # closer than the reserve
                break
        return max(self.window_rows, int(low * RESERVE))


def check_fit(needs: Int[np.ndarray, "N 3"], capacity: tuple[int, int, int], name: Callable[[int], str]) -> None:
    """UserError that names the first example no row can hold, how many there are, and the fields that would do."""
    over = needs > np.asarray(capacity)
    if over.any():
        first, most = int(np.flatnonzero(over.any(axis=1))[0]), needs.max(axis=0)
        fields = [
            f"data.{field}={int(need)} (now {have})"
            for field, need, have in zip(("row_tokens", "row_clips", "row_answers"), most, capacity, strict=True)
            if need > have
        ]
        raise UserError(
            f"{name(first)}: longer than a row, as {int(over.any(axis=1).sum())} of {len(needs)} examples are; "
            f"raise {', '.join(fields)}, or leave such examples out with data.skip_long=True"
        )
