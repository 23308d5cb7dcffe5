"""Which example is at position i of the endless training stream: a pure function of (seed, i), without stored state.

Three steps lead from a position to an example, and each can be computed for any position alone:

1. Position to group. The positions of a period are divided among the groups by their weights, in a fixed pattern whose
   every prefix keeps the shares to within one example. The pattern repeats with the next period.
2. Draw of a group to cell. A group whose species have shares of their own consists of cells. A round gives each cell
   its turns, in an order that is permuted again for every round. Other groups are a single cell with one turn.
3. Draw of a cell to example. Each epoch of a cell is a permutation of its examples.

Permutations are Feistel networks (`shuffle.permute`), evaluated element by element and keyed by the seed, the cell or
group, and the epoch or round. So every position costs the same, whatever the number of examples and species.

Three groups as an example, with a period of 4 instead of `PERIOD`. Birds have weight 1/2 and two species, of which
crows (4 examples) get 2 turns in a round of 3, and ravens (2 examples) get 1. Frogs and words have weight 1/4 each:

    group    draws  first_cell  turns      cell     size  turns  first_turn  first_member  its members
    birds      2        0         3        crows      4     2        0            0        10 11 12 13
                                           ravens     2     1        2            4        14 15
    frogs      1        2         1        frogs      3     1        3            6        20 21 22
    words      1        3         1        words      2     1        4            9        30 31

The pattern is birds, frogs, words, birds. Position 7 is place 3 of period 1: birds, whose draws 0 to 2 came before, so
this is draw 3. That is turn 0 of round 1, which the permutation of that round may send to turn 1: crows have turns 0
and 1, so it is their draw 1 * 2 + 1 = 3, the last one of their epoch 0. The permutation of that epoch may send 3 to 2:
members[0 + 2], example 12.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt64

from nlm_jax.core.errors import UserError
from nlm_jax.data.shuffle import mix64, permute, sides

PERIOD = 65_536
"""Positions after which the pattern of groups repeats: shares are exact to 1 in 65,536."""
MIN_ROUND, TURNS_PER_CELL = 4096, 64
"""Turns in a round whose cells have different shares: at least the first, and on average at least the second a cell."""
ROUND_KEY = np.uint64(1 << 63)
"""Separates the keys of rounds from those of epochs."""


@dataclasses.dataclass(frozen=True)
class Cells:
    """Parts of a group with shares of their own within it."""

    sizes: Int[np.ndarray, "C"]
    """Examples of each cell; the members of the group are listed cell by cell."""
    weights: Float[np.ndarray, "C"]


@dataclasses.dataclass(frozen=True)
class Group:
    """Examples that are drawn with one share."""

    name: str
    weight: float
    size: int
    """Number of its examples."""
    members: Int[np.ndarray, "N"] | None = None
    """Their numbers in the corpus; None = all examples of the corpus."""
    cells: Cells | None = None
    """None = every member equally often."""

    @property
    def cell_sizes(self) -> Int[np.ndarray, "C"]:
        """Examples of each cell; a group without cells is one."""
        return np.asarray([self.size]) if self.cells is None else self.cells.sizes


class GroupTable(NamedTuple):
    """One entry per group in each column."""

    draws: Int[np.ndarray, "G"]
    """Positions of a period that are the group's."""
    first_cell: Int[np.ndarray, "G"]
    """Row of its first cell in the cell table."""
    turns: Int[np.ndarray, "G"]
    """Turns in a round of its cells."""


class CellTable(NamedTuple):
    """One entry per cell in each column, group after group."""

    size: Int[np.ndarray, "C"]
    """Number of its examples."""
    side: UInt64[np.ndarray, "C"]
    """`shuffle.sides` of the size."""
    turns: Int[np.ndarray, "C"]
    """Its turns in a round of its group."""
    first_turn: Int[np.ndarray, "C"]
    """Turns of all cells before it in the table: its own turns are `first_turn` to `first_turn + turns - 1`."""
    first_member: Int[np.ndarray, "C"]
    """Offset of its examples in the list of all groups' members; -1 if the group is the whole corpus."""
    key: UInt64[np.ndarray, "C"]
    """Distinguishes its permutations: the group in the low 20 bits; above, 1.. for the cell, or 0 if there is one."""


class TrainStream:
    """The training stream of groups.

    Args:
      groups: what is drawn from; groups of weight 0 are left out.
      seed: of all permutations.

    Raises:
      UserError: no group has a weight, or there are more groups than positions in a period.
    """

    def __init__(self, groups: Sequence[Group], seed: int):
        self.groups, self.seed = [g for g in groups if g.weight > 0], seed
        if not self.groups:
            raise UserError("data.mixture: every weight is 0; at least one group must be drawn")
        if len(self.groups) > PERIOD:
            raise UserError(f"data.mixture: {len(self.groups)} groups of source, domain and task; at most {PERIOD}")
        self._groups, self._cells = _tables(self.groups)
        self._group_at, self._rank_at = _pattern(self._groups.draws)
        listed = [g.members for g in self.groups if g.members is not None] or [np.zeros(0, np.int32)]
        self._members = listed[0] if len(listed) == 1 else np.concatenate(listed)

    @property
    def shares(self) -> dict[str, float]:
        """Share of the stream of each group, by its name."""
        return {g.name: float(n) / PERIOD for g, n in zip(self.groups, self._groups.draws, strict=True)}

    def expected_draws(self, positions: float) -> list[tuple[Group, Float[np.ndarray, "C"]]]:
        """How often each example of a cell is drawn in `positions` positions, on average, per group and cell."""
        expected = []
        for g, group in enumerate(self.groups):
            first = self._groups.first_cell[g]
            cells = slice(first, first + len(group.cell_sizes))
            draws = positions * self._groups.draws[g] / PERIOD * self._cells.turns[cells] / self._groups.turns[g]
            expected.append((group, draws / self._cells.size[cells]))
        return expected

    def lookup(self, positions: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
        """Numbers of the examples at stream positions (from 0), in any order."""
        period, place = np.divmod(np.asarray(positions, np.int64), PERIOD)
        group = self._group_at[place]
        cell, draw = self._cell_draw(group, period * self._groups.draws[group] + self._rank_at[place])
        size = self._cells.size[cell]
        epoch, index = np.divmod(draw, size)
        example = permute(index, size, self._key(self._cells.key[cell], epoch), self._cells.side[cell])
        first_member = self._cells.first_member[cell]
        listed = np.flatnonzero(first_member >= 0)
        example[listed] = self._members[first_member[listed] + example[listed]]
        return example

    def _cell_draw(
        self, group: Int[np.ndarray, "N"], draw: Int[np.ndarray, "N"]
    ) -> tuple[Int[np.ndarray, "N"], Int[np.ndarray, "N"]]:
        """The cell that draw number `draw` of a group goes to, and how many draws of that cell came before."""
        cell = self._groups.first_cell[group]
        several = np.flatnonzero(self._groups.turns[group] > 1)
        if not several.size:
            return cell, draw
        group, first_cell = group[several], cell[several]
        turns = self._groups.turns[group]
        number, turn = np.divmod(draw[several], turns)
        turn = permute(turn, turns, self._key(group.astype(np.uint64) + ROUND_KEY, number))
        turn += self._cells.first_turn[first_cell]
        cell[several] = index = np.searchsorted(self._cells.first_turn, turn, side="right") - 1
        draw[several] = number * self._cells.turns[index] + turn - self._cells.first_turn[index]
        return cell, draw

    def _key(self, key: UInt64[np.ndarray, "N"], epoch: Int[np.ndarray, "N"]) -> UInt64[np.ndarray, "N"]:
        """Key of a permutation from that of its cell or group and the number of the epoch or round."""
        with np.errstate(over="ignore"):
            return mix64(key + mix64(epoch.astype(np.uint64) + mix64(np.asarray([self.seed], np.uint64))))


def _tables(groups: Sequence[Group]) -> tuple[GroupTable, CellTable]:
    """The tables of the groups and of their cells."""
    columns, first_cell, turns_in_round = [], [], []
    n_cells = n_turns = n_members = 0
    for g, group in enumerate(groups):
        size = group.cell_sizes.astype(np.int64)
        turns = np.ones(1, np.int64) if group.cells is None else _turns(group.cells.weights)
        number = np.arange(1, len(size) + 1) if len(size) > 1 else np.zeros(1, np.int64)
        first_member = np.full(len(size), -1) if group.members is None else n_members + np.cumsum(size) - size
        key = np.uint64(g) + (number.astype(np.uint64) << np.uint64(20))
        columns.append(CellTable(size, sides(size), turns, n_turns + np.cumsum(turns) - turns, first_member, key))
        first_cell.append(n_cells)
        turns_in_round.append(int(turns.sum()))
        n_cells, n_turns = n_cells + len(size), n_turns + turns_in_round[-1]
        n_members += 0 if group.members is None else group.size
    draws = _draws(np.asarray([group.weight for group in groups]))
    cells = CellTable(*(np.concatenate(column) for column in zip(*columns, strict=True)))
    return GroupTable(draws, np.asarray(first_cell), np.asarray(turns_in_round)), cells


def _turns(weights: Float[np.ndarray, "C"]) -> Int[np.ndarray, "C"]:
    """Turns of each cell in a round: one each if all weigh the same, else in proportion, at least one."""
    if np.ptp(weights) <= 1e-9 * weights.max():
        return np.ones(len(weights), np.int64)
    total = max(MIN_ROUND, TURNS_PER_CELL * len(weights))
    return np.maximum(1, np.rint(weights / weights.sum() * total)).astype(np.int64)


def _draws(weights: Float[np.ndarray, "G"]) -> Int[np.ndarray, "G"]:
    """Positions of each group in a period, proportional to `weights` (largest remainders), at least one each."""
    exact = weights / weights.sum() * PERIOD
    draws = np.floor(exact).astype(np.int64)
    draws[np.argsort(draws - exact, kind="stable")[: PERIOD - int(draws.sum())]] += 1
    for g in np.flatnonzero(draws == 0):  # a share below 1 in PERIOD still gets a position
        draws[[np.argmax(draws), g]] += (-1, 1)
    return draws


def _pattern(draws: Int[np.ndarray, "G"]) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"]]:
    """The group of each position of a period, and how many positions of that group come before it: evenly spread."""
    group = np.repeat(np.arange(len(draws), dtype=np.int64), draws)
    rank = np.arange(PERIOD, dtype=np.int64) - np.repeat(np.cumsum(draws) - draws, draws)
    order = np.lexsort((group, (rank + 0.5) / draws[group]))
    return group[order], rank[order]
