"""How far ties between equally near labels can move the figures of BEANS-Zero's scorer.

That scorer takes the first of the nearest labels in the order of a Python set, which differs between processes: one
order of all labels for all predictions. Predictions with the same nearest labels are therefore decided alike. The
intervals here contain the figures of any order, and may be wider: each figure is a sum over labels, the widest ties are
decided in all ways, and for the others each label is taken at its best and at its worst.
"""

import collections
import functools
import itertools
import operator
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int

from nlm_jax.evaluate.beans_zero import metrics
from nlm_jax.evaluate.nearest_label import split_detection, split_items

MAX_OUTCOMES = 64
"""Maximum number of ways to decide the widest ties among labels that ties connect."""
ROUNDING = collections.defaultdict(lambda: 1e-12, mAP=1e-6)
"""More than sums of the same terms in another order differ, in float64 and (mAP) in float32."""
MAX_SORTED_ROWS = 1 << 16
"""Maximum number of rows sorted for one species, to try all outcomes of the ties that may predict it."""
Tie = tuple[str, ...]
"""Equally near labels, in sorted order; one label is no tie."""
TieCounts = dict[Tie, collections.Counter]
"""Equally near labels -> how often each label is correct among the predictions that these are nearest to."""
Interval = list[float]
"""[lowest, highest]."""


def sum_bounds(terms: Sequence[Sequence[float]]) -> Interval:
    """Lowest and highest value of a sum, each of whose terms takes one of some values independently."""
    return [functools.reduce(operator.add, map(end, terms), 0.0) for end in (min, max)]


def classification(ties: Sequence[Tie], labels: Sequence[str]) -> dict[str, Interval]:
    """Interval of each figure of `metrics.classification` over all orders of the labels.

    Args:
      ties: per prediction the labels that are equally near to it.
      labels: the correct ones.
    """
    counts: TieCounts = collections.defaultdict(collections.Counter)
    for tie, label in zip(ties, labels, strict=True):
        counts[tie][label] += 1
    support = collections.Counter(labels)
    items = {label: frozenset(split_items(label)) for label in support}
    terms: dict[str, list[list[float]]] = collections.defaultdict(list)
    for component in connected_labels(counts, [*support, *itertools.chain(*counts)]):
        inside = {tie: correct for tie, correct in counts.items() if tie[0] in component}
        values: dict[str, list[float]] = collections.defaultdict(list)
        for decided in decide_widest(inside):
            for figure, ends in figure_bounds(decided, component, support, items).items():
                values[figure] += ends
        for figure, possible in values.items():
            terms[figure].append(possible)
    intervals = {figure: [end / len(labels) for end in sum_bounds(values)] for figure, values in terms.items()}
    return intervals | {"Recall": intervals["Accuracy"]}


def with_rounding(figure: str, ends: Interval, value: float) -> Interval:
    """An interval widened by the rounding of the scorer's sums, or `value` twice if ties do not move the figure."""
    low, high = min(ends[0], value), max(ends[1], value)
    if high - low < ROUNDING[figure]:
        return [value, value]
    return [max(0.0, low - ROUNDING[figure]), min(1.0, high + ROUNDING[figure])]


def connected_labels(ties: Iterable[Tie], names: Iterable[str]) -> list[set[str]]:
    """The connected components of labels that occur in the same tie."""
    component = {name: {name} for name in names}
    for tie in ties:
        for other in tie[1:]:
            if component[other] is not component[tie[0]]:
                component[tie[0]] |= component[other]
                for name in component[other]:
                    component[name] = component[tie[0]]
    return list({id(members): members for members in component.values()}.values())


def decide_widest(counts: TieCounts) -> Iterator[TieCounts]:
    """The same predictions with the widest ties decided, in all of at most `MAX_OUTCOMES` ways; other ties remain."""
    widest, ways = [], 1
    for tie in sorted((tie for tie in counts if len(tie) > 1), key=lambda tie: (-len(tie), tie)):
        if ways * len(tie) <= MAX_OUTCOMES:
            widest, ways = [*widest, tie], ways * len(tie)
    rest = {tie: correct for tie, correct in counts.items() if tie not in widest}
    for winners in itertools.product(*widest):
        decided = {tie: correct.copy() for tie, correct in rest.items()}
        for tie, winner in zip(widest, winners, strict=True):
            decided.setdefault((winner,), collections.Counter()).update(counts[tie])
        yield decided


def figure_bounds(
    counts: TieCounts, names: Iterable[str], support: Mapping[str, int], items: Mapping[str, Collection[str]]
) -> dict[str, Interval]:
    """Bounds of what some labels add to each figure, times the number of predictions.

    Every tie is taken at its best and at its worst, for each label independently.

    Args:
      counts: of the predictions that are nearest to these labels.
      names: the labels.
      support: label -> how often it is correct.
      items: label -> its comma-separated items.
    """
    terms: dict[str, list[list[float]]] = {name: [] for name in ("Accuracy", "Precision", "F1 Score", "Top-1 Accuracy")}
    for tie, correct in counts.items():
        terms["Accuracy"].append([correct[name] for name in tie])
        terms["Top-1 Accuracy"].append(
            [sum(count for label, count in correct.items() if name in items[label]) for name in tie]
        )
    for name in sorted(names):  # not in the order of a set, which would move the last digit
        certain = counts.get((name,), collections.Counter())
        possible = tuple(
            (correct[name], correct.total()) for tie, correct in counts.items() if len(tie) > 1 and name in tie
        )
        weight, hits, predicted = support[name], certain[name], certain.total()
        terms["Precision"].append([weight * end for end in extreme_ratios(hits, predicted, possible)])
        terms["F1 Score"].append([2 * weight * end for end in extreme_ratios(hits, predicted + weight, possible)])
    return {figure: sum_bounds(values) for figure, values in terms.items()}


@functools.lru_cache(maxsize=1 << 14)
def extreme_ratios(hits: int, total: int, optional: tuple[tuple[int, int], ...]) -> tuple[float, float]:
    """Lowest and highest ratio hits / total if any of some (hits, total) may be added to both; 0 if the total is 0."""
    ordered, ends = sorted(optional, key=lambda pair: pair[0] / pair[1]), []
    for better, pairs in ((lambda a, b: a < b, ordered), (lambda a, b: a > b, ordered[::-1])):
        a, b = hits, total
        for more_hits, more in pairs:
            if b == 0 or better(more_hits / more, a / b):
                a, b = a + more_hits, b + more
        ends.append(a / b if b else 0.0)
    return (ends[0] if total else 0.0), ends[1]


# --- detections -------------------------------------------------------------------------------------------------------
def detection(
    ties: Sequence[Sequence[Tie]], labels: Sequence[Collection[str]], species: Sequence[str]
) -> dict[str, Interval]:
    """Interval of each figure of `metrics.detection` over all orders of the labels.

    Args:
      ties: per prediction its items, each as the labels that are equally near to it.
      labels: the correct sets.
      species: those to average over.
    """
    if not species:
        return {figure: [0.0, 0.0] for figure in ("mAP", "F1", "Recall", "Precision")}
    members = {tie: [set(split_detection(name)) for name in tie] for items in ties for tie in items}
    terms: dict[str, list[list[float]]] = collections.defaultdict(list)
    for name in species:
        truth = np.array([name in names for names in labels], np.int64)
        naming = {tie: [name in one for one in names] for tie, names in members.items()}
        certain, uncertain = np.zeros(len(labels), bool), collections.defaultdict(list)
        for row, items in enumerate(ties):
            for tie in items:
                if all(naming[tie]):
                    certain[row] = True
                elif any(naming[tie]):
                    uncertain[tie].append(row)
        for figure, values in species_values(truth, certain, list(uncertain.values())).items():
            terms[figure].append(values)
    return {figure: [end / len(species) for end in sum_bounds(values)] for figure, values in terms.items()}


def species_values(
    truth: Int[np.ndarray, "N"], certain: Bool[np.ndarray, "N"], uncertain: Sequence[Sequence[int]]
) -> dict[str, list[float]]:
    """Figures of one species: of every outcome of its ties if these are few, else the lowest and the highest possible.

    Args:
      truth: 1 if the species is correct.
      certain: whether it is predicted in any order of the labels.
      uncertain: for each tie, the rows that predict the species if it wins.
    """
    if not uncertain or len(truth) << len(uncertain) <= MAX_SORTED_ROWS:
        outcomes = np.tile(certain, (1 << len(uncertain), 1))
        for tie, rows in enumerate(uncertain):
            wins = (np.arange(len(outcomes)) >> (len(uncertain) - 1 - tie)) & 1 == 1
            outcomes[np.ix_(wins, rows)] = True
        return metrics.species_figures(truth, np.unique(outcomes, axis=0).astype(np.int64))
    possible = certain.copy()
    possible[[row for rows in uncertain for row in rows]] = True
    ends, total, count = [], int(truth.sum()), len(truth)
    for right, wrong, best in ((certain, possible, False), (possible, certain, True)):
        hits, false = int((truth > 0)[right].sum()), int((truth == 0)[wrong].sum())
        precision, recall = hits / max(hits + false, 1), hits / max(total, 1)
        f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
        mean = extreme_average_precision(hits, false, total, count, best)
        ends.append({"mAP": mean, "F1": f1, "Recall": recall, "Precision": precision})
    return {figure: [end[figure] for end in ends] for figure in ends[0]}


def extreme_average_precision(hits: int, false: int, total: int, count: int, best: bool) -> float:
    """Average precision if, among equal scores, the correct rows are sorted first (`best`) or last.

    Args:
      hits: correct rows that are predicted.
      false: wrong rows that are predicted.
      total: correct rows.
      count: rows.
      best: whether correct rows come first.
    """
    k = np.arange(1, total + 1)
    first, second = (k, false + k) if best else (false + k, count - total + k)
    positions = np.where(k <= hits, first, second)
    return float((k / positions).sum() / max(total, 1))
