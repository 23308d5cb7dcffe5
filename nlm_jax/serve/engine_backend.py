"""The model of `nlm serve`: questions become requests to the engine of a `NatureLM`."""

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
from nlm_jax.generate.request import Request
from nlm_jax.generate.schedule import Admission
from nlm_jax.serve.types import Loader, OnText, ServeQuestion

log = logging.getLogger(__name__)
USUAL_PROMPT = 256
"""Positions of the longest usual prompt: one recording of ten seconds, the template, and some lines of text."""
LONGEST_TOKEN = 256
"""Maximum number of characters of a token in any vocabulary (Llama 3's longest has 128)."""
EXAMPLE = "What is the common name for the focal species in the audio?"


class EngineBackend:
    """An engine with a thread of its own, and what makes requests for it."""

    def __init__(self, engine: Engine, tokenizer, config, max_prompt: int, revision: str = ""):
        """Starts the engine's thread.

        Args:
          engine: computes the answers.
          tokenizer, config: of the model.
          max_prompt: positions of the longest prompt; the engine's memory grows to it and does not shrink.
          revision: identifies the weights.
        """
        self.engine, self.revision = engine, revision
        self._tokenizer, self._config, self._max_prompt = tokenizer, config, max_prompt
        self._closed, self._warm_up = threading.Event(), None
        engine.start()

    def request(self, question: ServeQuestion, on_text: OnText | None = None) -> Request:
        """A request for the engine.

        Args:
          question: of a client.
          on_text: called with each new piece of the answer.

        Raises:
          UserError: invalid options, clips that do not match the placeholders, or a prompt that is too long.
        """
        options = GenerationOptions(max_new_tokens=question.max_tokens, **question.sampling)
        if len(question.text) > LONGEST_TOKEN * self._max_prompt:  # tokenizing it would take long
            raise UserError(f"messages: {len(question.text)} characters, far more than {self._max_prompt} tokens")
        prompted = self.prompt(question)
        if len(prompted) > self._max_prompt:
            raise UserError(f"messages: {len(prompted)} tokens with the audio, at most {self._max_prompt}")
        request = Request(prompted, options, self._tokenizer, on_text=on_text)
        self.engine.prepare(request)
        return request

    def prompt(self, question: ServeQuestion) -> Prompt:
        """The prompt of a question.

        Samples that make no token of the encoder are left out of clips shorter than the model's. So the lengths that
        clients choose need a few dozen programs, not one each, and the answers are the same.
        """
        full = self._config.audio.samples
        waves = [wave if len(wave) == full else wave[: used_samples(len(wave))] for wave in question.clips]
        return prompt(self._tokenizer, [Clip.of(wave) for wave in waves], question.text, self._config)

    def warm_up(self, question: ServeQuestion, max_length: int) -> None:
        """Compiles the prefill of prompts up to `max_length` positions, in a thread next to the traffic."""

        def work() -> None:
            shortest = self.prompt(question)
            for length in range(BUCKET, min(max_length, self._max_prompt) + 1, BUCKET):
                if self._closed.is_set():
                    return
                try:
                    if length >= len(shortest):
                        self.engine.warm_up(lengthened(shortest, length))
                except Exception:  # then the first question of this length compiles it
                    log.exception("compiling for prompts of %d positions failed", length)

        self._warm_up = threading.Thread(target=work, name="nlm-warm-up", daemon=True)
        self._warm_up.start()

    def join_warm_up(self, timeout: float | None = None) -> None:
        """Waits until `warm_up` is done."""
        if self._warm_up is not None:
            self._warm_up.join(timeout)

    def close(self, error: Exception | None = None) -> None:
        """Ends its threads, after the program that is being compiled; unfinished requests fail with `error`."""
        self._closed.set()
        self.join_warm_up()
        self.engine.close(error)


def loader(
    load_model: Callable[[], object], slots: int, max_tokens: int, max_prompt: int, deterministic: bool = False
) -> Loader:
    """The `Loader` of a `NatureLM`. It answers first questions, so that programs are compiled before serving traffic.

    Args:
      load_model: loads the `NatureLM`.
      slots: answers decoded together.
      max_tokens: of an answer.
      max_prompt: positions of a prompt.
      deterministic: no bit of an answer depends on the other requests; see `reserve` of `Engine`.
    """
    reserve = max_prompt + max_tokens if deterministic else 0

    def load(report_stage: Callable[[str], None], admission: Admission) -> EngineBackend:
        report_stage("loading weights")
        model = load_model()
        engine = model.engine(slots=slots, reserve=reserve, admission=admission)
        backend = EngineBackend(engine, model.tokenizer, model.config, max_prompt, revision(model.state))
        report_stage("compiling")
        try:
            question = ServeQuestion((np.zeros(model.config.audio.samples, np.float32),), EXAMPLE, max_tokens)
            for count in dict.fromkeys((1, slots)):  # the engine prefills a small group, or as many as it has slots
                _answer_first_tokens(backend, question, count)
            backend.warm_up(question, USUAL_PROMPT)
        except BaseException:
            backend.close()
            raise
        return backend

    return load


def lengthened(shorter: Prompt, length: int) -> Prompt:
    """`shorter` followed by some token up to `length` positions."""
    more = (0, length - len(shorter))
    return dataclasses.replace(
        shorter,
        tokens=np.pad(shorter.tokens, more),
        audio_slot=np.pad(shorter.audio_slot, more, constant_values=-1),
        positions=np.arange(length, dtype=np.int32),
        real=np.ones(length, bool),
    )


def _answer_first_tokens(backend: EngineBackend, question: ServeQuestion, count: int) -> None:
    """Asks a question `count` times at once, and cancels each request after its first tokens."""
    begun: list[concurrent.futures.Future] = [concurrent.futures.Future() for _ in range(count)]

    def set_begun(future: concurrent.futures.Future) -> Callable:
        return lambda *_: None if future.done() else future.set_result(None)

    requests = [backend.request(question, set_begun(future)) for future in begun]
    futures = backend.engine.enqueue_all(requests)
    for first, future in zip(begun, futures, strict=True):
        future.add_done_callback(set_begun(first))
    concurrent.futures.wait(begun)
    for future in futures:
        if not future.cancel():
            future.result()  # raises if it failed
