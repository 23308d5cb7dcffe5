"""A request to the engine, its answer, and the errors of requests without one."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np

from nlm_jax.core.errors import NotFinite
from nlm_jax.data.text import Tokenizer
from nlm_jax.generate.decode_state import SamplingArrays
from nlm_jax.generate.options import GenerationOptions
from nlm_jax.generate.prompts import Prompt
from nlm_jax.generate.schedule import Job

NO_ANSWER = "the model's output for this question is NaN or infinite; try another recording, or --dtype float32"
"""Why a query has no answer if its logits are not finite."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer to a query."""

    ids: list[int]
    """New tokens, with the end symbol or what completed a stop text."""
    text: str
    """Without special tokens, and without the text or token of `stop` that ended it."""
    finish: Literal["end", "stop", "length"]
    """Why it ends: the model's end symbol, a text or token of `stop`, or `max_new_tokens`."""
    score: float | None = None
    """Score of a beam search: sum of the answer's log-probabilities over its length ** length_penalty."""
    prompt_tokens: int | None = None
    """Positions of the prompt, its audio vectors included."""


class Unanswered(NotFinite):
    """Some of several queries have no answer, as their logits are not finite. The message names the first of them."""

    def __init__(self, answers: list[Any], first: str):
        """An error that carries the answers of the other queries.

        Args:
          answers: of each query in order the `Answer`, or the scores of its candidates; None if there is none.
          first: the reason for the first None.
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
class Request(Job):
    """A query on its way through the engine: its prompt and options, and as much of the answer as there is."""

    prompt: Prompt
    options: GenerationOptions
    tokenizer: Tokenizer
    on_tokens: Callable[[list[int]], None] | None = None
    """Called with new token ids, by the thread that decodes."""
    on_text: Callable[[str], None] | None = None
    """Called with new pieces of text, by the thread that decodes; joined they are the text of the answer."""
    stop_all_id: int = -1
    ids: list[int] = dataclasses.field(default_factory=list)
    """New tokens so far."""
    sampling: SamplingArrays | None = None
    """The options as arrays of one row; set by the engine as it takes the request."""
    _delivered: bool = False
    """Whether the caller has received part of the answer."""
    _pieces: "Pieces | None" = None

    @property
    def streamed(self) -> bool:
        """Whether its tokens are needed on the host while it is decoded."""
        return self.on_tokens is not None or self.on_text is not None or bool(self.options.stop_texts)

    def restart(self) -> bool:
        """Discards the partial answer. Returns False if the caller has received part of it."""
        if self._delivered:
            return False
        self.ids, self._pieces = [], None
        return True

    def take(self, ids: Iterable[int], finished: bool, score: float | None = None) -> bool:
        """Adds new tokens, passes them to the callbacks, and sets the answer if it is complete.

        An exception of a callback becomes that of the future.

        Args:
          ids: the new tokens.
          finished: whether the model has ended the answer, or its limit is reached.
          score: of a beam search.

        Returns:
          whether the request is done: answered, or failed.
        """
        added, text = [], None
        for token in ids:
            self.ids.append(token)
            added.append(token)
            if (text := self._text_before_stop()) is not None:
                break
        try:
            if added:
                self._deliver(added)
            if text is None and not finished:
                return False
            answer = Answer(self.ids, text, "stop") if text is not None else self._answer()
            answer = dataclasses.replace(answer, score=score, prompt_tokens=len(self.prompt))
            if self._pieces is not None:
                self._deliver_text(self._pieces.end(answer))
        except Exception as error:  # of the caller's function, which must not end the engine
            self.fail(error)
            return True
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(answer)
        return True

    def _deliver(self, ids: list[int]) -> None:
        if self.on_tokens is not None:
            self._delivered = True
            self.on_tokens(ids)
        if self.on_text is not None:
            if self._pieces is None:
                self._pieces = Pieces(self.tokenizer, self.options)
            self._deliver_text(self._pieces.add(ids))

    def _deliver_text(self, piece: str) -> None:
        if piece:
            self._delivered = True
            self.on_text(piece)

    def _text_before_stop(self) -> str | None:
        """The text before the first of the stop texts, None if none has come."""
        if not self.options.stop_texts:
            return None
        text = self.tokenizer.decode(self.ids)
        starts = [at for s in self.options.stop_texts if (at := text.find(s)) >= 0]
        return text[: min(starts)] if starts else None

    def _answer(self) -> Answer:
        last = self.ids[-1]
        if last in self.tokenizer.eos_ids:
            return Answer(self.ids, self.tokenizer.decode(self.ids), "end")
        if last in self.options.stop_ids:
            return Answer(self.ids, self.tokenizer.decode(self.ids[:-1]), "stop")
        return Answer(self.ids, self.tokenizer.decode(self.ids), "length")


class Pieces:
    """Token ids -> pieces of text, each as soon as it is final; joined they are the answer's text."""

    def __init__(self, tokenizer: Tokenizer, options: GenerationOptions):
        self._tokenizer, self._options = tokenizer, options
        self._ids: list[int] = []
        self._emitted = ""

    def add(self, ids: Iterable[int]) -> str:
        """The text that `ids` add. Withheld: part of a character, and the beginning of a stop text."""
        self._ids += [i for i in ids if i not in self._options.stop_ids]
        text = self._tokenizer.decode(self._ids).rstrip("\ufffd")
        withheld = 0
        for stop in self._options.stop_texts:
            if stop in text:
                text = text[: text.index(stop)]
            withheld = max(withheld, *(n for n in range(len(stop)) if text.endswith(stop[:n])))
        return self._new_part(text[: len(text) - withheld])

    def end(self, answer: Answer) -> str:
        """The rest of the text."""
        return self._new_part(answer.text)

    def _new_part(self, text: str) -> str:
        if not text.startswith(self._emitted):
            return ""
        piece, self._emitted = text[len(self._emitted) :], text
        return piece
