"""The order in which torch's default sort leaves equal values.

BEANS computes average precision over answers sorted by score, and the scores of a generating model are 0 or 1: the
order among equal scores decides the figure. torch sorts with C++'s std::sort, which is deterministic but not stable:
this follows the introsort of libstdc++ step by step, so that published figures can be reproduced without torch.
"""

from collections.abc import Sequence

SORTED_AT_THE_END = 16
"""Ranges up to this length are left to the final insertion sort."""


def descending(values: Sequence[float]) -> list[int]:
    """Indices of `values` from the largest to the smallest, equal values in the order that std::sort leaves."""
    order = list(range(len(values)))
    _partition_all(values, order)
    # libstdc++'s final insertion sort moves an element only past strictly smaller ones: it is stable, as this is.
    order.sort(key=values.__getitem__, reverse=True)
    return order


def _partition_all(values: Sequence[float], order: list[int]) -> None:
    """The loop of introsort: partitions `order` into ranges of at most `SORTED_AT_THE_END`, the last one first."""
    ranges = [(0, len(order), 2 * max(1, len(order)).bit_length() - 2)]
    while ranges:
        first, last, depth = ranges.pop()
        while last - first > SORTED_AT_THE_END:
            if depth == 0:  # practically never reached; libstdc++ continues with a heap sort
                order[first:last] = sorted(order[first:last], key=lambda i: -values[i])
                break
            depth -= 1
            _median_to_first(values, order, first, last)
            cut = _partition(values, order, first, last)
            ranges.append((cut, last, depth))  # ranges do not overlap, so that their order does not matter
            last = cut


def _median_to_first(values: Sequence[float], order: list[int], first: int, last: int) -> None:
    """Swaps the median of three elements to `first`, as the pivot."""
    second, middle, end = first + 1, first + (last - first) // 2, last - 1
    x, y, z = (values[order[place]] for place in (second, middle, end))
    # The comparisons of libstdc++, which decide among equal values.
    smaller, larger, x, y = (middle, second, y, x) if x > y else (second, middle, x, y)
    median = smaller if x > z else end if y > z else larger
    order[first], order[median] = order[median], order[first]


def _partition(values: Sequence[float], order: list[int], first: int, last: int) -> int:
    """Partitions the range after its pivot `first`; the index of the first element of the smaller half."""
    pivot, first = values[order[first]], first + 1
    while True:
        while values[order[first]] > pivot:
            first += 1
        last -= 1
        while pivot > values[order[last]]:
            last -= 1
        if first >= last:
            return first
        order[first], order[last] = order[last], order[first]
        first += 1
