"""The order in which torch's default sort leaves equal values.

BEANS computes average precision over answers sorted by score, and the scores of a generating model are 0 or 1: the
order among equals decides the figure. torch sorts with C++'s std::sort, whose result among equals is not random: this
follows the introsort of libstdc++ step by step, so that published figures can be had again without torch.
"""

from collections.abc import Sequence

SHORT = 16
"""Ranges up to this length are left to the insertion sort at the end."""


def descending(values: Sequence[float]) -> list[int]:
    """Indices of `values` from the largest to the smallest, equals in the order std::sort leaves them."""
    order = list(range(len(values)))

    def before(a: int, b: int) -> bool:
        return values[a] > values[b]

    def median_to_first(result: int, a: int, b: int, c: int) -> None:
        x, y, z = order[a], order[b], order[c]
        if before(x, y):
            middle = b if before(y, z) else c if before(x, z) else a
        else:
            middle = a if before(x, z) else c if before(y, z) else b
        order[result], order[middle] = order[middle], order[result]

    def partition(first: int, last: int, pivot: int) -> int:
        while True:
            while before(order[first], order[pivot]):
                first += 1
            last -= 1
            while before(order[pivot], order[last]):
                last -= 1
            if first >= last:
                return first
            order[first], order[last] = order[last], order[first]
            first += 1

    def loop(first: int, last: int, depth: int) -> None:
        while last - first > SHORT:
            if depth == 0:  # as good as never reached; libstdc++ goes on with a heap sort
                order[first:last] = sorted(order[first:last], key=lambda i: -values[i])
                return
            depth -= 1
            median_to_first(first, first + 1, first + (last - first) // 2, last - 1)
            cut = partition(first + 1, last, first)
            loop(cut, last, depth)
            last = cut

    loop(0, len(order), 2 * max(1, len(order)).bit_length() - 2)
    for i in range(1, len(order)):
        moved, j = order[i], i
        if i < SHORT and before(moved, order[0]):  # the short way of the guarded sort: straight to the front
            order[1 : i + 1], order[0] = order[:i], moved
            continue
        while j and before(moved, order[j - 1]):
            order[j] = order[j - 1]
            j -= 1
        order[j] = moved
    return order
