"""What goes to the model and what comes back."""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked of the model: the clips, f32[T] each, the text, and how to decode."""

    clips: tuple[np.ndarray, ...]
    text: str
    max_tokens: int
    """Longest answer, in tokens."""

    @property
    def shape(self) -> tuple[Any, ...]:
        """Questions of one shape can be answered together without compiling anew."""
        return self.max_tokens, tuple(clip.size for clip in self.clips)


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
