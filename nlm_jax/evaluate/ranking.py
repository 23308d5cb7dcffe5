"""Two ways to reply to a question: a response that the model generates, or the label it finds most likely.

The paper scores BirdSet the second way (arXiv 2411.07186, section 5): by the loss of every label as the answer, which
is a mean over its tokens. A label of a multi-label part is predicted if it is more likely than "None"; by how much
ranks the recordings for mAP.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from nlm_jax.data.schema import NONE
from nlm_jax.evaluate.types import EvalQuestion, Reply, Responder
from nlm_jax.generate.request import Unanswered


@dataclasses.dataclass(frozen=True)
class Candidates:
    """The labels to choose from for a part."""

    labels: Sequence[str]
    multilabel: bool = False
    """A reply may name several labels, or "None", which must be one of `labels`."""


def generated_replies(model: Any, **options: Any) -> Responder:
    """Replies that the model generates.

    Args:
      model: a `NatureLM`.
      options: those of `NatureLM.generate`.
    """

    def reply(questions: Sequence[EvalQuestion], waveforms: Sequence[Any]) -> list[Reply | None]:
        try:
            texts = model.generate(list(waveforms), [question.query for question in questions], **options)
        except Unanswered as error:
            texts = [answer and answer.text for answer in error.answers]
        return [None if text is None else Reply(text) for text in texts]

    return reply


def ranked_replies(
    model: Any, candidates: Mapping[str, Candidates], open_ended: Responder, **options: Any
) -> Responder:
    """Replies by the log-likelihood of each candidate label.

    Args:
      model: a `NatureLM`.
      candidates: by part.
      open_ended: replies to questions of a part without candidates.
      options: those of `NatureLM.score`.
    """

    def reply(questions: Sequence[EvalQuestion], waveforms: Sequence[Any]) -> list[Reply | None]:
        closed = [i for i, question in enumerate(questions) if question.part in candidates]
        unlisted = [i for i, question in enumerate(questions) if question.part not in candidates]
        replies: dict[int, Reply | None] = {}
        if unlisted:
            texts = open_ended([questions[i] for i in unlisted], [waveforms[i] for i in unlisted])
            replies |= zip(unlisted, texts, strict=True)
        if closed:
            queries, labels = (
                [questions[i].query for i in closed],
                [list(candidates[questions[i].part].labels) for i in closed],
            )
            try:
                scores = model.score([waveforms[i] for i in closed], queries, labels, **options)
            except Unanswered as error:
                scores = error.answers
            for i, values in zip(closed, scores, strict=True):
                part = candidates[questions[i].part]
                replies[i] = None if values is None else most_likely(part, np.asarray(values, np.float64))
        return [replies[i] for i in range(len(questions))]

    return reply


def most_likely(candidates: Candidates, log_likelihoods: Float[np.ndarray, "L"]) -> Reply:
    """The reply with the highest log-likelihood; the first of equally likely labels."""
    labels = candidates.labels
    if not candidates.multilabel:
        scores = dict(zip(labels, log_likelihoods.tolist(), strict=True))
        return Reply(labels[int(np.argmax(log_likelihoods))], scores)
    none = log_likelihoods[list(labels).index(NONE)]
    above_none = {
        name: float(value - none) for name, value in zip(labels, log_likelihoods, strict=True) if name != NONE
    }
    present = sorted((name for name, value in above_none.items() if value > 0), key=lambda name: -above_none[name])
    return Reply(", ".join(present) or NONE, above_none)
