"""What goes to the model, what comes back, and what a model must offer to be served."""

import concurrent.futures
import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

OnText = Callable[[str], None]
"""Called with each further piece of one answer, in the model's thread."""


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked of the model: the clips, f32[T] each at 16 kHz, the text, and how to decode."""

    clips: tuple[np.ndarray, ...]
    text: str
    max_tokens: int
    """Longest answer, in tokens."""
    sampling: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of `generate.options.GenerationOptions`; none = the most likely token each time."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the model says, and why it stopped."""

    text: str
    finish_reason: str = "stop"
    """"stop": it came to an end; "length": it was cut at `Question.max_tokens`."""
    prompt_tokens: int | None = None
    """Positions of the prompt, the vectors of its clips included."""
    completion_tokens: int | None = None
    """Tokens of the answer, the end symbol included."""

    @property
    def usage(self) -> dict[str, int]:
        """The counts that are known, under their names in `predictions_v1`."""
        counts = {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens}
        return {name: count for name, count in counts.items() if count is not None}


class Answerer(Protocol):
    """Answers several questions at a time. It may have a `revision: str` that names its weights."""

    def submit(self, question: Question, on_text: OnText) -> concurrent.futures.Future:
        """A promise of the `Answer`. Raises `UserError` where the question cannot be answered."""

    def close(self) -> None:
        """Answers nothing any more."""


Loader = Callable[[Callable[[str], None]], Answerer]
"""Makes the answerer, and says by its argument at what stage of loading it is."""
