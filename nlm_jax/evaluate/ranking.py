"""Two ways to reply to a question: an answer that the model writes, or the label it finds likeliest.

The paper scores BirdSet by the second (arXiv 2411.07186, section 5): by the loss of every label as the answer, which is
a mean over its tokens. A label of a detection counts where it is likelier than "None", and by how much ranks the
recordings for mAP.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nlm_jax.evaluate.beans_zero.dataset import Head
from nlm_jax.evaluate.beans_zero.parts import CAPTIONING, DETECTION, NONE, kind_of, label_sets
from nlm_jax.evaluate.nearest_label import items as split
from nlm_jax.evaluate.runner import Item, Replies, Reply
from nlm_jax.generate.request import Unanswered


def writer(model: Any, **options: Any) -> Replies:
    """Replies that the model generates; `options` are those of `NatureLM.generate`."""

    def replies(items: Sequence[Item], waves: Sequence[Any]) -> list[Reply | None]:
        try:
            texts = model.generate(list(waves), [item.question for item in items], **options)
        except Unanswered as error:
            texts = [answer and answer.text for answer in error.answers]
        return [None if text is None else Reply(text) for text in texts]

    return replies


def ranker(model: Any, candidates: Mapping[str, Sequence[str]], captions: Replies, **options: Any) -> Replies:
    """Replies by the log-likelihood of each candidate, which `NatureLM.score` gives; `options` are those of it.

    Args:
      candidates: part -> labels, as `candidates` makes them.
      captions: replies to what has no labels to choose from.
    """

    def replies(items: Sequence[Item], waves: Sequence[Any]) -> list[Reply | None]:
        open_ = [i for i, item in enumerate(items) if item.part not in candidates]
        closed = [i for i, item in enumerate(items) if item.part in candidates]
        found: dict[int, Reply | None] = {}
        if open_:
            found |= zip(open_, captions([items[i] for i in open_], [waves[i] for i in open_]), strict=True)
        if closed:
            names = [list(candidates[items[i].part]) for i in closed]
            try:
                numbers = model.score([waves[i] for i in closed], [items[i].question for i in closed], names, **options)
            except Unanswered as error:
                numbers = error.answers
            for i, labels, values in zip(closed, names, numbers, strict=True):
                ranking = None if values is None else ranked(items[i].part, labels, np.asarray(values, np.float64))
                found[i] = ranking
        return [found[i] for i in range(len(items))]

    return replies


def ranked(part: str, labels: Sequence[str], values: np.ndarray) -> Reply:
    """The reply that log-likelihoods f64[L] of `labels` stand for; of equally likely ones the first."""
    if kind_of(part, labels) != DETECTION:
        return Reply(labels[int(np.argmax(values))], dict(zip(labels, values.tolist(), strict=True)))
    nothing = values[labels.index(NONE)]
    above = {name: float(v - nothing) for name, v in zip(labels, values, strict=True) if name != NONE}
    heard = sorted((name for name, value in above.items() if value > 0), key=lambda name: -above[name])
    return Reply(", ".join(heard) or NONE, above)


def candidates(heads: Sequence[Head], vocabulary: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Part -> the labels to choose from: of `vocabulary`, else the benchmark's, else those of the data.

    Labels of the data that are lacking join them, and "None" of a detection. Captioning has none.
    """
    inside: dict[str, list[str]] = {}
    for head in heads:
        inside.setdefault(head.part, []).append(head.label)
    found = {}
    for part, truths in inside.items():
        kind = kind_of(part, {item for truth in truths for item in split(truth)})
        if kind == CAPTIONING:
            continue
        names = [*(vocabulary.get(part) or label_sets().get(part, ()))]
        lacking = truths if kind != DETECTION else [item for truth in truths for item in split(truth)]
        names += sorted(set(lacking) - set(names) - {""})
        found[part] = names if kind != DETECTION else [*(name for name in names if name != NONE), NONE]
    return found
