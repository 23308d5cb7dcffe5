"""Interface between the server and a model."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np

from nlm_jax.generate.schedule import Admission, Job, Scheduler

OnText = Callable[[str], None]
"""Called with each new piece of an answer, in the engine's thread."""


@dataclasses.dataclass(frozen=True)
class ServeQuestion:
    """A question as HTTP clients send it: audio, text, and how to decode the answer."""

    clips: tuple[np.ndarray, ...]
    """f32[T] each, at 16 kHz."""
    text: str
    max_tokens: int
    """Maximum number of tokens of the answer."""
    sampling: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of `generate.options.GenerationOptions`; empty = greedy."""


@runtime_checkable
class Backend(Protocol):
    """A loaded model with its engine."""

    engine: Scheduler
    revision: str
    """Identifies the weights."""

    def request(self, question: ServeQuestion, on_text: OnText | None = None) -> Job:
        """A request for the engine, whose future gets a `generate.request.Answer`.

        Raises:
          UserError: the question cannot be answered.
        """

    def close(self, error: Exception) -> None:
        """Ends the engine; unfinished requests fail with `error`."""


Loader = Callable[[Callable[[str], None], Admission], Backend]
"""Loads a backend whose engine has this admission; reports its stage by calling the first argument."""
