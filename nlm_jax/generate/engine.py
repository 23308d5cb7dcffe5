"""Continuous batching: rows that are decoded together, each given to the next request as soon as its answer ends."""

import collections
import concurrent.futures
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from nlm_jax.convert.transfer import fetch
from nlm_jax.core.errors import NotFinite, UserError
from nlm_jax.data.text import Tokenizer
from nlm_jax.generate.audio_cache import Encodings
from nlm_jax.generate.audio_inputs import clips_of
from nlm_jax.generate.decode import BROKEN, begin, blanks, decode, grow, join
from nlm_jax.generate.decode_state import Decoding, Knobs
from nlm_jax.generate.options import GenerationOptions, one
from nlm_jax.generate.prompts import BUCKET, Prompt, prompt
from nlm_jax.generate.request import NO_ANSWER, Answer, Pieces, Request
from nlm_jax.generate.shapes import on_mesh, rounded_up, whole_rows
from nlm_jax.models.config import NatureLMConfig

ROOM = 32
"""Room for new tokens is rounded up to a multiple of this, so that few shapes are compiled."""
REFILL = 8
"""One in so many rows must be free before requests that wait are let in, so that prefill has a batch to work on."""


class Engine:
    """Answers questions as they come, `slots` at a time, greedily, by sampling, or each with `num_beams` beams.

    Used as a context manager it has a thread of its own, and `submit` may be called from any thread:

        with model.engine(slots=16) as engine:
            futures = [engine.submit(clip, query, max_new_tokens=100) for clip, query in asked]
            texts = [f.result().text for f in futures]

    Without, nothing happens until `run` or `step` is called. What else is asked changes the rounding of an answer at
    most (it decides which shapes are computed), and with `reserve` nothing. Programs are compiled once per length
    bucket of the prompts (64 tokens), and once for each size the cache grows to.
    """

    def __init__(
        self,
        graphdef,
        state,
        cfg: NatureLMConfig,
        tokenizer: Tokenizer,
        *,
        slots: int = 8,
        num_beams: int = 1,
        steps: int = 8,
        reserve: int = 0,
        mesh: jax.sharding.Mesh | None = None,
        encodings: Encodings | None = None,
    ):
        """An engine for the weights `state` as they are now.

        Args:
          graphdef, state: of the model (`nnx.split`).
          slots: answers decoded together; on a mesh rounded up to a multiple of its data and fsdp axes.
          num_beams: of every answer; 1 = greedy, or sampling where a request has a temperature.
          steps: tokens decoded before the host looks: new requests are let in, tokens told, cancellations heeded.
          reserve: above 0: slots of the cache that every row has from the start and keeps, and each prompt and clip is
            computed alone. So all programs have the same shapes whatever else is asked: an answer depends in no bit on
            its company. A question that needs more is refused.
          mesh: where the weights lie, None for one device.
          encodings: the cache of encoded clips; one of its own by default.

        Raises:
          UserError: a number below 1.
        """
        for name, value in (("slots", slots), ("num_beams", num_beams), ("steps", steps)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"{name}={value!r}: must be a whole number, at least 1")
        self._graphdef, self._state, self._cfg, self._tokenizer = graphdef, state, cfg, tokenizer
        self._mesh, self._steps, self._reserve = mesh, steps, rounded_up(reserve, BUCKET)
        self._how = Decoding(tokenizer.eos_ids, tokenizer.pad_id, num_beams)
        self._encodings = Encodings() if encodings is None else encodings
        self.slots = whole_rows(slots, mesh)
        self._few = whole_rows(1 if reserve else max(1, self.slots // REFILL), mesh)
        self._taken: list[Request | None] = [None] * self.slots
        self._rows = None
        self._waiting: collections.deque[Request] = collections.deque()
        self._changed = threading.Condition()
        self._stepping = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """Requests that have no row yet."""
        return len(self._waiting)

    @property
    def active(self) -> int:
        """Requests that are being decoded."""
        return sum(r is not None for r in self._taken)

    def submit(
        self,
        audio: Any,
        query: str,
        options: GenerationOptions | None = None,
        *,
        on_tokens: Callable[[list[int]], None] | None = None,
        **fields: Any,
    ) -> concurrent.futures.Future:
        """A promise of the `Answer` to one query; may be called from any thread.

        Args:
          audio: a path, an array f32[T] at 16 kHz, or a list of them, as for `NatureLM.generate`.
          query: user text; where `<AudioHere>` is missing it is put in front, once per clip.
          on_tokens: called with the new token ids whenever there are some, by the thread that decodes. (With beams
            once, at the end: until then it is open which beam wins.)
          options: how the answer is decoded; the defaults of `GenerationOptions` if None.
          fields: fields of `GenerationOptions` by name, in the place of those of `options`.

        Returns:
          a future: `.result()` waits for the answer, `.cancel()` gives the row to another request.

        Raises:
          UserError: what `NatureLM.generate` raises, at once; or the engine is closed.
        """
        chosen = one(options, **fields)
        return self.enqueue(
            Request(
                prompt(self._tokenizer, clips_of(audio, self._cfg.audio), query, self._cfg),
                chosen,
                self._tokenizer,
                on_tokens,
            )
        )

    def stream(self, audio: Any, query: str, options: GenerationOptions | None = None, **fields: Any) -> Iterator[str]:
        """The answer in pieces of text, as they are decoded; joined they are what `submit` would answer.

        Args are those of `submit`. Leaving the loop early cancels the request.
        """
        arrived: queue.SimpleQueue = queue.SimpleQueue()
        future = self.submit(audio, query, options, on_tokens=arrived.put, **fields)
        future.add_done_callback(lambda _: arrived.put(None))
        return self._pieces(future, arrived, Pieces(self._tokenizer, one(options, **fields)))

    def _pieces(self, future, arrived: queue.SimpleQueue, pieces: Pieces) -> Iterator[str]:
        try:
            while True:
                while self._thread is None and arrived.empty():
                    self.step()
                ids = arrived.get()
                if ids is None:
                    break
                if piece := pieces.add(ids):
                    yield piece
            if piece := pieces.end(future.result()):
                yield piece
        finally:
            future.cancel()

    def enqueue(self, request: Request) -> concurrent.futures.Future:
        """Puts a request at the end of the queue. Raises UserError if the engine cannot answer it.

        Whatever the host computes for one request happens here: a failure in `step` is one of all rows.
        """
        request.options.check(self._how.beams)
        vocab = self._cfg.llama.vocab
        if wrong := [i for i in request.options.stop_ids if i >= vocab]:
            raise UserError(f"stop={wrong[0]}: the vocabulary has {vocab} tokens")
        if self._reserve and (need := self._need(request, request.options.max_new_tokens)) > self._reserve:
            raise UserError(f"{need} tokens with the audio and the longest answer; this engine has {self._reserve}")
        request.knobs = self._knobs(request.options, request.stop_all_id)
        with self._changed:
            if self._closed:
                raise UserError("the engine is closed; make another one")
            self._waiting.append(request)
            self._changed.notify_all()
        return request.future

    def run(self) -> None:
        """Decodes in this thread until nothing is left to answer."""
        while self.step():
            pass

    def step(self) -> bool:
        """Lets requests in, decodes a few tokens, answers what is finished. Returns whether anything is left to do.

        On a mesh of several processes each of them must take the same steps.
        """
        with self._stepping, on_mesh(self._mesh):
            self._admit()
            if self.active:
                self._decode()
        return bool(self.active or self._waiting)

    def __enter__(self) -> "Engine":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def start(self) -> None:
        """From now on a thread decodes whatever is submitted."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="nlm-engine", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Takes no more requests; what is not answered yet is cancelled. The rows' memory is given back."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        for request in (*self._waiting, *(r for r in self._taken if r is not None)):
            request.future.cancel()
        self._waiting.clear()
        self._taken, self._rows = [None] * self.slots, None

    def warm_up(self, asked: Prompt) -> None:
        """Compiles and runs once what lets in prompts as long as `asked`; may run beside the thread that decodes."""
        with on_mesh(self._mesh):
            for size in dict.fromkeys((self._few, self._few if self._reserve else self.slots)):
                prompts = self._encodings.prompts(self._graphdef, self._state, [asked], size, self._mesh)
                knobs = Knobs.joined([self._knobs(GenerationOptions(), -1)] * size)
                jax.block_until_ready(begin(self._graphdef, self._state, prompts, knobs, how=self._how))

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting or self.active)
                if self._closed:
                    return
            try:
                self.step()
            except Exception as error:  # of the device: those who wait must hear it, later ones may fare better
                with self._changed:
                    failed = [*self._waiting, *(r for r in self._taken if r is not None)]
                    self._waiting.clear()
                self._taken, self._rows = [None] * self.slots, None
                for request in failed:
                    request.fail(error)

    def _admit(self) -> None:
        """Requests from the queue into free rows: a few at a time, or as many as there are rows."""
        for row, request in enumerate(self._taken):
            if request is not None and request.future.cancelled():
                self._taken[row] = None
        while free := [row for row, request in enumerate(self._taken) if request is None]:
            with self._changed:
                self._waiting = collections.deque(r for r in self._waiting if not r.future.cancelled())
                wanted = min(len(free), len(self._waiting))
                if not wanted:
                    return
                size = self._few if self._reserve or wanted <= self.slots // 2 else self.slots
                group = [self._waiting.popleft() for _ in range(min(wanted, 1 if self._reserve else size))]
                ahead = [s for r in self._waiting for s in r.prompt.sounds][: 0 if self._reserve else self.slots]
            self._fit(group)
            rows = free[: len(group)]
            for row, request in zip(rows, group, strict=True):
                self._taken[row] = request  # before anything can fail, so that whoever waits hears of it
            at = np.full(size, self.slots, np.int32)
            at[: len(rows)] = rows
            knobs = Knobs.joined(
                [r.knobs for r in group] + [self._knobs(GenerationOptions(), -1)] * (size - len(group))
            )
            asked = [r.prompt for r in group]
            prompts = self._encodings.prompts(
                self._graphdef,
                self._state,
                asked,
                size,
                self._mesh,
                ahead=ahead,
                at_once=0 if self._reserve else self.slots,
            )
            new = begin(self._graphdef, self._state, prompts, knobs, how=self._how)
            self._rows = join(self._rows, new, at, pad_id=self._how.pad_id)

    def _fit(self, group: list[Request]) -> None:
        """Makes the cache large enough for what `group` begins with, and the room for new tokens for all that wait."""
        with self._changed:
            room = max(r.options.max_new_tokens for r in (*group, *self._waiting))
        slots = max(
            max(rounded_up(len(r.prompt), BUCKET), self._need(r, min(r.options.max_new_tokens, ROOM))) for r in group
        )
        self._resize(slots, room)

    def _knobs(self, options: GenerationOptions, stop_all_id: int) -> Knobs:
        """Of one row."""
        return Knobs.of([options], self._how.eos_ids, self._cfg.llama.vocab, [stop_all_id])

    def _need(self, request: Request, tokens: int) -> int:
        """Slots of the cache that a request fills with so many new tokens."""
        return len(request.prompt) + self._how.beams * tokens

    def _resize(self, slots: int, room: int) -> None:
        """Rows with at least so much of both."""
        slots, room = max(rounded_up(slots, BUCKET), self._reserve), rounded_up(room, ROOM)
        if self._rows is None:
            self._rows = blanks(self._cfg, self._how, self.slots, slots, room)
        elif slots > self._rows.cache.slots or room > self._rows.room:
            slots, room = max(slots, self._rows.cache.slots), max(room, self._rows.room)
            self._rows = grow(self._rows, slots, room, self._how.pad_id)

    def _decode(self) -> None:
        """Some tokens more in every row; then whatever is finished is answered."""
        taken = np.array([r is not None for r in self._taken])
        if self._thread is not None:
            steps, enough = self._steps, 1
        else:
            watched = any(r is not None and r.watched for r in self._taken)
            steps = self._steps if watched else self._rows.room
            enough = min(self._few, len(self._waiting), self.active) or self.active
        self._rows, told = decode(
            self._graphdef, self._state, self._rows, taken, np.int32(steps), np.int32(enough), how=self._how
        )
        full, beams, told = 0, self._how.beams > 1, fetch(told)
        scores = told[:, 2].copy().view(np.float32).tolist()
        for row, (finished, end, _, length, *ids) in enumerate(told.tolist()):
            request = self._taken[row]
            if request is None:
                continue
            if finished == BROKEN:
                request.fail(NotFinite(NO_ANSWER))
                self._taken[row] = None
                continue
            if not finished:
                full = max(full, end + self._how.beams)
            if beams and not finished:
                continue
            if request.take(ids[len(request.ids) : length], bool(finished), scores[row] if beams else None):
                self._taken[row] = None
        if full > self._rows.cache.slots:  # few answers are long: the cache grows when one is
            most = max(self._need(r, r.options.max_new_tokens) for r in self._taken if r is not None)
            self._resize(min(2 * self._rows.cache.slots, most), self._rows.room)


__all__ = ["Answer", "Engine"]
