"""How far equally near labels can move the figures of the benchmark's own scorer.

That scorer takes the first of the nearest labels in the order of a Python set, which is another one in every process:
one order of all labels for all answers. Answers with the same nearest labels therefore come out alike. The intervals
here hold whatever any order gives, and may be wider: each figure is a sum over labels, the widest ties are decided in
all ways, and for the others each label is taken at its best and at its worst.
"""

import collections
import dataclasses
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np

from nlm_jax.evaluate.beans_zero import metrics
from nlm_jax.evaluate.nearest_label import items, listed

OUTCOMES = 64
"""Ways to decide the widest ties of labels that ties connect, at most."""
ROUNDING = collections.defaultdict(lambda: 1e-12, mAP=1e-6)
"""More than sums of the same terms in another order differ, in float64 and (mAP) in float32."""
ROWS = 1 << 16
"""Rows that are sorted for one species at most, to try all outcomes of the ties that may name it."""
Options = tuple[str, ...]
Groups = dict[Options, collections.Counter]
"""Equally near labels -> how often each label is right where these are the nearest."""
Interval = list[float]


@dataclasses.dataclass
class Sum:
    """Lowest and highest value of a sum whose terms are bounded apart."""

    low: float = 0.0
    high: float = 0.0

    def add(self, values: Iterable[float]) -> None:
        """Adds a term that takes one of `values`."""
        values = list(values)
        self.low, self.high = self.low + min(values), self.high + max(values)

    def over(self, count: int) -> Interval:
        """The sum divided by `count`."""
        return [self.low / count, self.high / count]


def classification(options: Sequence[Options], labels: Sequence[str]) -> dict[str, Interval]:
    """Interval of each figure of `metrics.classification` over all orders of the labels.

    Args:
      options: per answer the labels that are equally near to it.
    """
    groups: Groups = collections.defaultdict(collections.Counter)
    for names, label in zip(options, labels, strict=True):
        groups[names][label] += 1
    support = collections.Counter(labels)
    sums: dict[str, Sum] = collections.defaultdict(Sum)
    for part in connected(groups, [*support, *itertools.chain(*groups)]):
        inside = {names: counts for names, counts in groups.items() if names[0] in part}
        tried: dict[str, list[float]] = collections.defaultdict(list)
        for decided in outcomes(inside):
            for figure, ends in bounds(decided, part, support).items():
                tried[figure] += ends
        for figure, values in tried.items():
            sums[figure].add(values)
    intervals = {figure: total.over(len(labels)) for figure, total in sums.items()}
    return intervals | {"Recall": intervals["Accuracy"]}


def padded(figure: str, ends: Interval, value: float) -> Interval:
    """An interval with room for the rounding of the scorer's sums, or `value` twice if ties move nothing."""
    low, high = min(ends[0], value), max(ends[1], value)
    if high - low < ROUNDING[figure]:
        return [value, value]
    return [max(0.0, low - ROUNDING[figure]), min(1.0, high + ROUNDING[figure])]


def connected(groups: Iterable[Options], names: Iterable[str]) -> list[set[str]]:
    """Labels in sets of those that ties connect."""
    part = {name: {name} for name in names}
    for options in groups:
        for other in options[1:]:
            if part[other] is not part[options[0]]:
                part[options[0]] |= part[other]
                for name in part[other]:
                    part[name] = part[options[0]]
    return list({id(names): names for names in part.values()}.values())


def outcomes(groups: Groups) -> Iterator[Groups]:
    """The same answers with the widest ties decided, in all ways that are at most `OUTCOMES`; other ties stay open."""
    widest, ways = [], 1
    for names in sorted((names for names in groups if len(names) > 1), key=lambda names: (-len(names), names)):
        if ways * len(names) <= OUTCOMES:
            widest, ways = [*widest, names], ways * len(names)
    rest = {names: counts for names, counts in groups.items() if names not in widest}
    for winners in itertools.product(*widest):
        decided = {names: counts.copy() for names, counts in rest.items()}
        for names, winner in zip(widest, winners, strict=True):
            decided.setdefault((winner,), collections.Counter()).update(groups[names])
        yield decided


def bounds(groups: Groups, names: Iterable[str], support: Mapping[str, int]) -> dict[str, Interval]:
    """Lowest and highest of what the labels `names` add to each figure, times the number of answers.

    Every tie is taken at its best and at its worst, for each label on its own.
    """
    sums: dict[str, Sum] = {name: Sum() for name in ("Accuracy", "Precision", "F1 Score", "Top-1 Accuracy")}
    for options, counts in groups.items():
        sums["Accuracy"].add(counts[name] for name in options)
        sums["Top-1 Accuracy"].add(
            sum(count for label, count in counts.items() if name in items(label)) for name in options
        )
    for name in names:
        sure = groups.get((name,), collections.Counter())
        shares = [(counts[name], counts.total()) for o, counts in groups.items() if len(o) > 1 and name in o]
        weight, right, given = support[name], sure[name], sure.total()
        sums["Precision"].add(weight * end for end in extremes(right, given, shares))
        sums["F1 Score"].add(2 * weight * end for end in extremes(right, given + weight, shares))
    return {figure: [total.low, total.high] for figure, total in sums.items()}


def extremes(right: int, given: int, shares: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Least and largest (right + some of the rights) / (given + the same ones' givens); 0 if nothing is given.

    Args:
      shares: (right, given) of what may be added or not.
    """
    ordered, ends = sorted(shares, key=lambda share: share[0] / share[1]), []
    for better, order in ((lambda a, b: a < b, ordered), (lambda a, b: a > b, ordered[::-1])):
        a, b = right, given
        for more, of in order:
            if b == 0 or better(more / of, a / b):
                a, b = a + more, b + of
        ends.append(a / b if b else 0.0)
    return (ends[0] if given else 0.0), ends[1]


# --- detections -------------------------------------------------------------------------------------------------------
def detection(
    options: Sequence[Sequence[Options]], truths: Sequence[Collection[str]], species: Sequence[str]
) -> dict[str, Interval]:
    """Interval of each figure of `metrics.detection` over all orders of the labels.

    Args:
      options: per answer its items, each as the labels that are equally near to it.
    """
    if not species:
        return {figure: [0.0, 0.0] for figure in ("mAP", "F1", "Recall", "Precision")}
    sums: dict[str, Sum] = collections.defaultdict(Sum)
    for name in species:
        truth = np.array([name in names for names in truths], np.int64)
        sure, open_ = np.zeros(len(truths), bool), collections.defaultdict(list)
        for row, choices in enumerate(options):
            for names in choices:
                naming = [name in listed(one) for one in names]
                sure[row] |= all(naming)
                if any(naming) and not all(naming):
                    open_[names].append(row)
        for figure, values in column(truth, sure, list(open_.values())).items():
            sums[figure].add(values)
    return {figure: total.over(len(species)) for figure, total in sums.items()}


def column(truth: np.ndarray, sure: np.ndarray, open_: Sequence[Sequence[int]]) -> dict[str, list[float]]:
    """Figures of one species: of every outcome if those are few, else the least and the largest possible.

    Args:
      truth: i64[N], where it is right.
      sure: bool[N], where it is named whatever the order.
      open_: rows in which it is named if it wins a tie, of each tie.
    """
    if not open_ or len(truth) << len(open_) <= ROWS:
        tried = []
        for wins in itertools.product((False, True), repeat=len(open_)):
            given = sure.copy()
            given[[row for won, rows in zip(wins, open_, strict=True) if won for row in rows]] = True
            tried.append(metrics.detection_column(truth, given.astype(np.int64)))
        return {figure: [one[figure] for one in tried] for figure in tried[0]}
    possible = sure.copy()
    possible[[row for rows in open_ for row in rows]] = True
    ends, total, count = [], int(truth.sum()), len(truth)
    for right, wrong, best in ((sure, possible, False), (possible, sure, True)):
        hits, false = int((truth > 0)[right].sum()), int((truth == 0)[wrong].sum())
        precision, recall = hits / max(hits + false, 1), hits / max(total, 1)
        f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
        ends.append(
            {"mAP": sorted_apart(hits, false, total, count, best), "F1": f1, "Recall": recall, "Precision": precision}
        )
    return {figure: [end[figure] for end in ends] for figure in ends[0]}


def sorted_apart(hits: int, false: int, total: int, count: int, best: bool) -> float:
    """Average precision if, among equal scores, what is right comes first (`best`) or last."""
    k = np.arange(1, total + 1)
    first, second = (k, false + k) if best else (false + k, count - total + k)
    positions = np.where(k <= hits, first, second)
    return float((k / positions).sum() / max(total, 1))
