"""Questions answered by the engine of a `NatureLM`, with the counts that `predictions_v1` asks for."""

import concurrent.futures
import dataclasses
import logging
import threading
from collections.abc import Callable

import numpy as np

from nlm_jax.core.errors import UserError
from nlm_jax.core.frames import used_samples
from nlm_jax.core.tree import revision
from nlm_jax.generate.audio_inputs import Clip
from nlm_jax.generate.engine import Engine
from nlm_jax.generate.options import GenerationOptions
from nlm_jax.generate.prompts import BUCKET, Prompt, prompt
from nlm_jax.generate.request import Pieces, Request
from nlm_jax.serve.types import Answer, Loader, OnText, Question

log = logging.getLogger(__name__)
USUAL = 256
"""Positions of the longest usual prompt: one recording of ten seconds, the template, and some lines of text."""
LONGEST_TOKEN = 256
"""Characters of the longest token that a vocabulary may have (Llama 3's has 128)."""
FINISH = {"end": "stop", "stop": "stop", "length": "length"}


class EngineAnswerer:
    """Feeds an engine that has a thread of its own."""

    def __init__(self, engine: Engine, tokenizer, config, most_prompt: int, revision: str = ""):
        """`most_prompt`: positions of the longest prompt; the engine's memory grows with it and stays so."""
        self._engine, self._tokenizer, self._config, self._most = engine, tokenizer, config, most_prompt
        self.revision = revision
        self._closed, self._warming = threading.Event(), None
        engine.start()

    def submit(self, question: Question, on_text: OnText) -> concurrent.futures.Future:
        """A promise of the `Answer`; cancelling it gives its row of the engine to another question.

        Raises:
          UserError: options that mean nothing, clips that do not fit the placeholders, a prompt that is too long.
        """
        options = GenerationOptions(max_new_tokens=question.max_tokens, **question.sampling)
        if len(question.text) > LONGEST_TOKEN * self._most:  # it would be long in being cut into tokens
            raise UserError(f"messages: {len(question.text)} characters, far more than {self._most} tokens")
        asked = self._prompt(question)
        if len(asked) > self._most:
            raise UserError(f"messages: {len(asked)} tokens with the audio, at most {self._most}")
        pieces, length = Pieces(self._tokenizer, options), len(asked)  # what waits must not hold on to the sound

        def on_tokens(ids: list[int]) -> None:
            if piece := pieces.add(ids):
                on_text(piece)

        promise: concurrent.futures.Future = concurrent.futures.Future()
        inner = self._engine.enqueue(Request(asked, options, self._tokenizer, on_tokens))

        def finished(future: concurrent.futures.Future) -> None:
            if future.cancelled():
                promise.cancel()
            if not promise.set_running_or_notify_cancel():
                return
            if error := future.exception():
                promise.set_exception(error)
                return
            found = future.result()
            try:
                if rest := pieces.end(found):
                    on_text(rest)
            except Exception as failure:  # of who listens: without a result the question would keep its place for ever
                promise.set_exception(failure)
                return
            promise.set_result(Answer(found.text, FINISH[found.finish], length, len(found.ids)))

        promise.add_done_callback(lambda p: inner.cancel() if p.cancelled() else None)
        inner.add_done_callback(finished)
        return promise

    def warm_up(self, question: Question, longest: int) -> None:
        """Compiles what lets in questions of up to `longest` positions, in a thread: nobody waits for it."""

        def work() -> None:
            asked = self._prompt(question)
            for length in range(BUCKET, min(longest, self._most) + 1, BUCKET):
                if self._closed.is_set():
                    return
                try:
                    if length >= len(asked):
                        self._engine.warm_up(lengthened(asked, length))
                except Exception:  # then the first question of this length waits
                    log.exception("compiling for prompts of %d positions failed", length)

        self._warming = threading.Thread(target=work, name="nlm-warm-up", daemon=True)
        self._warming.start()

    def close(self) -> None:
        """Ends its threads; one that compiles does so once the program is done."""
        self._closed.set()
        if self._warming is not None:
            self._warming.join()
        self._engine.close()

    def _prompt(self, question: Question) -> Prompt:
        return prompt(self._tokenizer, [self._clip(c) for c in question.clips], question.text, self._config)

    def _clip(self, wave: np.ndarray) -> Clip:
        """A clip; of a length that a client chose, without samples that make no token of the encoder.

        So the lengths that can be asked for need a few dozen programs, not one each, and the answers are the same.
        """
        return Clip.of(wave if len(wave) == self._config.audio.samples else wave[: used_samples(len(wave))])


def loader(
    load_model: Callable[[], object], slots: int, most_tokens: int, most_prompt: int, deterministic: bool = False
) -> Loader:
    """What `make_app` loads: the model, and first questions, so that the programs are compiled before anybody asks.

    `deterministic`: no bit of an answer depends on what else is asked; see `Engine`'s `reserve`.
    """
    reserve = most_prompt + most_tokens if deterministic else 0

    def load(say: Callable[[str], None]) -> EngineAnswerer:
        say("loading weights")
        model = load_model()
        engine = model.engine(slots=slots, reserve=reserve)
        answerer = EngineAnswerer(engine, model.tokenizer, model.config, most_prompt, revision(model.state))
        say("compiling")
        try:
            silence = np.zeros(model.config.audio.samples, np.float32)
            question = Question((silence,), "What is the common name for the focal species in the audio?", most_tokens)
            for together in dict.fromkeys((1, slots)):  # the engine lets in a few rows at a time, or all of them
                _try_out(answerer, question, together)
            answerer.warm_up(question, USUAL)
        except BaseException:
            answerer.close()
            raise
        return answerer

    return load


def lengthened(asked: Prompt, length: int) -> Prompt:
    """`asked` with some token behind it, `length` positions in all."""
    more = (0, length - len(asked))
    return dataclasses.replace(
        asked,
        tokens=np.pad(asked.tokens, more),
        audio_slot=np.pad(asked.audio_slot, more, constant_values=-1),
        positions=np.arange(length, dtype=np.int32),
        real=np.ones(length, bool),
    )


def _try_out(answerer: EngineAnswerer, question: Question, together: int) -> None:
    """Asks a question so many times, and gives each up after its first tokens."""
    first: list[concurrent.futures.Future] = [concurrent.futures.Future() for _ in range(together)]

    def heard(promise: concurrent.futures.Future) -> Callable:
        return lambda *_: None if promise.done() else promise.set_result(None)

    asked = [answerer.submit(question, heard(promise)) for promise in first]
    for promise, future in zip(first, asked, strict=True):
        future.add_done_callback(heard(promise))
    concurrent.futures.wait(first)
    for future in asked:
        if not future.cancel():
            future.result()  # says what went wrong
