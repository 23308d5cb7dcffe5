"""Types shared by the benchmarks: questions about recordings, and a model's replies to them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class QuestionKey(Protocol):
    """Key of a question; an id may occur twice in a part."""

    part: str
    id: str


@runtime_checkable
class EvalQuestion(Protocol):
    """A question about a recording, with its correct answer (`label`)."""

    part: str
    id: str
    query: str
    label: str

    def waveform(self) -> Any:
        """The recordings, as `NatureLM.generate` takes them. Raises UserError if they cannot be used."""


@dataclasses.dataclass(frozen=True)
class Reply:
    """A model's reply to one question."""

    text: str
    scores: Mapping[str, float] | None = None
    """Label -> log-likelihood, if labels were scored."""


Responder = Callable[[Sequence[EvalQuestion], Sequence[Any]], Sequence[Reply | None]]
"""(questions, their waveforms) -> replies; None if the model's logits were not finite."""
