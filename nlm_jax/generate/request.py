"""One question on its way through the engine: what was asked, what there is of the answer, who waits for it."""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np

from nlm_jax.core.errors import NotFinite
from nlm_jax.data.text import Tokenizer
from nlm_jax.generate.decode_state import Knobs
from nlm_jax.generate.options import GenerationOptions
from nlm_jax.generate.prompts import Prompt

NO_ANSWER = "the model's output for this question is NaN or infinite; try another recording, or --dtype float32"
"""Why a question has no answer if its logits are not finite."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came of a question."""

    ids: list[int]
    """New tokens, with the end symbol or what completed a stop text."""
    text: str
    """Without special tokens, and without what was given as `stop`."""
    finish: Literal["end", "stop", "length"]
    """Why it ends: the model ended it, something in `stop` came, or `max_new_tokens` was reached."""
    score: float | None = None
    """Of a beam search: sum of the answer's log-probabilities over its length ** length_penalty."""


class Unanswered(NotFinite):
    """Some of many questions have no answer, for their logits are not finite; says of the first which it is."""

    def __init__(self, answers: list[Any], first: str):
        """An error for these questions.

        Args:
          answers: of each question in order the `Answer`, or the scores of its candidates; None if there is none.
          first: the first reason.
        """
        self.answers, self.reason = answers, first
        self.query = next(i for i, answer in enumerate(answers) if answer is None)
        super().__init__(f"query {self.query}: {first}")

    @classmethod
    def check_scores(cls, scores: list[np.ndarray]) -> None:
        """Raises it if some scores are not finite."""
        finite = [one if np.isfinite(one).all() else None for one in scores]
        if any(one is None for one in finite):
            raise cls(finite, NO_ANSWER)


@dataclasses.dataclass(eq=False)
class Request:
    """`future` gets the `Answer`; cancelling it gives its row to another request."""

    prompt: Prompt
    options: GenerationOptions
    tokenizer: Tokenizer
    on_tokens: Callable[[list[int]], None] | None = None
    stop_all_id: int = -1
    future: concurrent.futures.Future = dataclasses.field(default_factory=concurrent.futures.Future)
    ids: list[int] = dataclasses.field(default_factory=list)
    knobs: Knobs | None = None
    """The options as the arrays of one row; the engine makes them as it takes the request."""

    @property
    def watched(self) -> bool:
        """Whether somebody looks at its tokens while it is being decoded."""
        return self.on_tokens is not None or bool(self.options.stop_texts)

    def take(self, ids: Iterable[int], finished: bool, score: float | None = None) -> bool:
        """Adds new tokens, tells them, and answers where the answer ends. Returns whether it does.

        An exception of `on_tokens` becomes that of the future.
        """
        added, text = [], None
        for token in ids:
            self.ids.append(token)
            added.append(token)
            if (text := self._cut()) is not None:
                break
        try:
            if added and self.on_tokens is not None:
                self.on_tokens(added)
            if text is None and not finished:
                return False
            answer = Answer(self.ids, text, "stop") if text is not None else self._answer()
            answer = dataclasses.replace(answer, score=score)
        except Exception as error:  # of the caller's function, which must not end the engine
            self.fail(error)
            return True
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(answer)
        return True

    def fail(self, error: BaseException) -> None:
        """The question cannot be answered."""
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)

    def _cut(self) -> str | None:
        """The text before the first of the stop texts, None where none has come."""
        if not self.options.stop_texts:
            return None
        text = self.tokenizer.decode(self.ids)
        found = [at for s in self.options.stop_texts if (at := text.find(s)) >= 0]
        return text[: min(found)] if found else None

    def _answer(self) -> Answer:
        last = self.ids[-1]
        if last in self.tokenizer.eos_ids:
            return Answer(self.ids, self.tokenizer.decode(self.ids), "end")
        if last in self.options.stop_ids:
            return Answer(self.ids, self.tokenizer.decode(self.ids[:-1]), "stop")
        return Answer(self.ids, self.tokenizer.decode(self.ids), "length")


class Pieces:
    """Token ids -> pieces of text as they can be told; joined they are the answer's text."""

    def __init__(self, tokenizer: Tokenizer, options: GenerationOptions):
        self._tokenizer, self._options = tokenizer, options
        self._ids: list[int] = []
        self._told = ""

    def add(self, ids: Iterable[int]) -> str:
        """What `ids` add to the text. Held back: part of a character, and what may become a stop text."""
        self._ids += [i for i in ids if i not in self._options.stop_ids]
        text = self._tokenizer.decode(self._ids).rstrip("\ufffd")
        held = 0
        for stop in self._options.stop_texts:
            if stop in text:
                text = text[: text.index(stop)]
            held = max(held, *(n for n in range(len(stop)) if text.endswith(stop[:n])))
        return self._tell(text[: len(text) - held])

    def end(self, answer: Answer) -> str:
        """The rest of the text."""
        return self._tell(answer.text)

    def _tell(self, text: str) -> str:
        if not text.startswith(self._told):
            return ""
        piece, self._told = text[len(self._told) :], text
        return piece
