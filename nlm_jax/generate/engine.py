"""Continuous batching: rows that are decoded together, each reused for the next request as soon as its answer ends."""

import queue
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from nlm_jax.core.errors import NotFinite, UserError
from nlm_jax.data.text import Tokenizer
from nlm_jax.generate.audio_cache import Encodings
from nlm_jax.generate.audio_inputs import clips_of
from nlm_jax.generate.cache_plan import CachePlan, RowSize
from nlm_jax.generate.decode import StepOutput, blank_rows, decode, enlarge_rows, insert_rows, prefill_rows
from nlm_jax.generate.decode_state import DecodeConfig, DecodeState, SamplingArrays
from nlm_jax.generate.options import GenerationOptions, one
from nlm_jax.generate.prompts import BUCKET, Prompt, prompt
from nlm_jax.generate.request import NO_ANSWER, Answer, Request
from nlm_jax.generate.schedule import Admission, Scheduler
from nlm_jax.generate.shapes import on_mesh, rounded_up, whole_rows
from nlm_jax.models.config import NatureLMConfig

REFILL = 8
"""This fraction (1/8) of the rows must be free before waiting requests get them, so that prefill has a batch."""


class Engine(Scheduler[Request]):
    """Answers queries as they come, `slots` at a time, greedily, by sampling, or each with `num_beams` beams.

    Used as a context manager it has a thread of its own, and `submit` may be called from any thread:

        with model.engine(slots=16) as engine:
            futures = [engine.submit(clip, query, max_new_tokens=100) for clip, query in pairs]
            texts = [f.result().text for f in futures]

    Without, nothing happens until `run` or `step` is called. Other requests in the batch change the rounding of an
    answer at most (they decide which shapes are computed), and with `reserve` nothing. Programs are compiled once per
    length bucket of the prompts (64 tokens), and once for each size the cache grows to.

    The queue, cancellation, and the retry after a device failure are those of `schedule.Scheduler`.
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
        admission: Admission | None = None,
        mesh: jax.sharding.Mesh | None = None,
        encodings: Encodings | None = None,
    ):
        """An engine for the weights `state` as they are now.

        Args:
          graphdef, state: of the model (`nnx.split`).
          cfg, tokenizer: of the model.
          slots: answers decoded together; on a mesh rounded up to a multiple of its data and fsdp axes.
          num_beams: of every answer; 1 = greedy, or sampling for requests with a temperature.
          steps: tokens per device loop; after it tokens are returned, cancellations are seen, and new requests start.
          reserve: if above 0, the cache slots of every row, from the start and constantly; each prompt and clip is then
            computed alone. So all programs have the same shapes whatever else is in the batch, on which no bit of an
            answer then depends. Requests that need more slots are refused.
          admission: the bounds of the queue; unbounded if None.
          mesh: that of the weights, None for one device.
          encodings: the cache of encoded clips; a new one by default.

        Raises:
          UserError: a number below 1.
        """
        for name, value in (("slots", slots), ("num_beams", num_beams), ("steps", steps)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"{name}={value!r}: must be a whole number, at least 1")
        super().__init__(whole_rows(slots, mesh), admission)
        self.slots = len(self.running)
        self._graphdef, self._state, self._cfg, self._tokenizer = graphdef, state, cfg, tokenizer
        self._mesh, self._steps, self._reserve = mesh, steps, rounded_up(reserve, BUCKET)
        self._config = DecodeConfig(tokenizer.eos_ids, tokenizer.pad_id, num_beams)
        self._plan = CachePlan(num_beams, self._reserve)
        self._encodings = Encodings() if encodings is None else encodings
        self._small_group = whole_rows(1 if reserve else max(1, self.slots // REFILL), mesh)
        self.rows: DecodeState | None = None
        """The state of all slots; None until the first request."""

    def submit(
        self,
        audio: Any,
        query: str,
        options: GenerationOptions | None = None,
        *,
        on_tokens: Callable[[list[int]], None] | None = None,
        **fields: Any,
    ):
        """Puts a query at the end of the queue; may be called from any thread.

        Args:
          audio: a path, an array f32[T] at 16 kHz, or a list of them, as for `NatureLM.generate`.
          query: user text; if it lacks `<AudioHere>`, one per clip is put in front.
          options: how the answer is decoded; the defaults of `GenerationOptions` if None.
          on_tokens: called with new token ids as they come, by the thread that decodes. (With beams once, at the end,
            when the best beam is known.)
          fields: fields of `GenerationOptions` by name, which replace those of `options`.

        Returns:
          a future of the `Answer`: `.result()` waits for it, `.cancel()` frees its row.

        Raises:
          UserError: what `NatureLM.generate` raises; or the engine is closed.
        """
        return self.enqueue(self._request(audio, query, one(options, **fields), on_tokens=on_tokens))

    def stream(self, audio: Any, query: str, options: GenerationOptions | None = None, **fields: Any) -> Iterator[str]:
        """The answer in pieces of text, as they are decoded; joined they are the answer of `submit`.

        Args are those of `submit`. Leaving the loop early cancels the request.
        """
        pieces: queue.SimpleQueue = queue.SimpleQueue()
        future = self.enqueue(self._request(audio, query, one(options, **fields), on_text=pieces.put))
        future.add_done_callback(lambda _: pieces.put(None))
        return self._stream(future, pieces)

    def _stream(self, future, pieces: queue.SimpleQueue) -> Iterator[str]:
        try:
            while True:
                while self._thread is None and pieces.empty():
                    self.step()
                piece = pieces.get()
                if piece is None:
                    break
                yield piece
            future.result()  # raises if the request failed
        finally:
            future.cancel()

    def _request(self, audio: Any, query: str, options: GenerationOptions, **callbacks: Any) -> Request:
        prompted = prompt(self._tokenizer, clips_of(audio, self._cfg.audio), query, self._cfg)
        return Request(prompted, options, self._tokenizer, **callbacks)

    def warm_up(self, example: Prompt) -> None:
        """Compiles the prefill of prompts as long as `example` and runs it once; the thread may decode meanwhile."""
        with on_mesh(self._mesh):
            for size in dict.fromkeys((self._small_group, self._small_group if self._reserve else self.slots)):
                prompts = self._encodings.prompts(self._graphdef, self._state, [example], size, self._mesh)
                arrays = SamplingArrays.concatenate([self._arrays(GenerationOptions(), -1)] * size)
                jax.block_until_ready(prefill_rows(self._graphdef, self._state, prompts, arrays, config=self._config))

    # --- what the scheduler calls

    def prepare(self, job: Request) -> None:
        """Computes on the host what one request needs, as a failure in `step` is one of all rows.

        Raises:
          UserError: the engine cannot answer this request.
        """
        if job.sampling is not None:
            return
        job.options.check(self._config.beams)
        vocab = self._cfg.llama.vocab
        if invalid := [i for i in job.options.stop_ids if i >= vocab]:
            raise UserError(f"stop={invalid[0]}: the vocabulary has {vocab} tokens")
        if self._reserve and (need := self._plan.needed(job, job.options.max_new_tokens)) > self._reserve:
            raise UserError(f"{need} tokens with the audio and the longest answer; this engine has {self._reserve}")
        job.sampling = self._arrays(job.options, job.stop_all_id)

    def step(self) -> bool:
        """See `Scheduler.step`."""
        with on_mesh(self._mesh):
            return super().step()

    def group_size(self, ready: int) -> int:
        """A small group, or as many as there are: two numbers of rows, for which prefill is compiled."""
        if self._reserve:
            return 1
        return min(ready, self._small_group) if ready <= self.slots // 2 else ready

    def prefill(self, group: list[Request], slots: list[int], upcoming: list[Request]) -> None:
        """See `Scheduler.prefill`. Clips of upcoming requests are encoded along, to fill the encoder's batch."""
        self._resize(self._plan.admit(group, upcoming, self._size()))
        size = self._small_group if len(group) <= self._small_group else self.slots
        at = np.full(size, self.slots, np.int32)  # past the end = no row
        at[: len(slots)] = slots
        padding = [self._arrays(GenerationOptions(), -1)] * (size - len(group))
        prompts = self._encodings.prompts(
            self._graphdef,
            self._state,
            [r.prompt for r in group],
            size,
            self._mesh,
            ahead=[] if self._reserve else [s for r in upcoming for s in r.prompt.sounds][: self.slots],
            at_once=0 if self._reserve else self.slots,
        )
        arrays = SamplingArrays.concatenate([r.sampling for r in group] + padding)
        new = prefill_rows(self._graphdef, self._state, prompts, arrays, config=self._config)
        self.rows = insert_rows(self.rows, new, at, pad_id=self._config.pad_id)

    def decode(self) -> None:
        """Decodes some tokens in every row, passes them on, and grows the cache if a row is full."""
        active = np.array([request is not None for request in self.running])
        if self._thread is not None:
            steps, enough = self._steps, 1
        else:
            streamed = any(request is not None and request.streamed for request in self.running)
            steps = self._steps if streamed else self.rows.max_tokens
            enough = min(self._small_group, len(self._waiting), self.active) or self.active
        self.rows, output = decode(
            self._graphdef, self._state, self.rows, active, np.int32(steps), np.int32(enough), config=self._config
        )
        output = to_host(output)
        for slot, request in enumerate(self.running):
            if request is not None and self._take(request, slot, output):
                self.running[slot] = None
        full = active & ~output.finished & (output.end + self._config.beams > self.rows.cache.slots)
        unfinished = [request for request in self.running if request is not None]
        if full.any() and unfinished:
            self._resize(self._plan.grow(unfinished, self._size()))

    def reset(self) -> None:
        """See `Scheduler.reset`."""
        self.rows = None

    def _take(self, request: Request, slot: int, output: StepOutput) -> bool:
        """Gives a request its new tokens. Returns whether it is done."""
        finished, beams = bool(output.finished[slot]), self._config.beams > 1
        if output.broken[slot]:
            request.fail(NotFinite(NO_ANSWER))
            return True
        if beams and not finished:
            return False
        tokens = output.tokens[slot, len(request.ids) : output.length[slot]].tolist()
        return request.take(tokens, finished, float(output.score[slot]) if beams else None)

    def _arrays(self, options: GenerationOptions, stop_all_id: int) -> SamplingArrays:
        """The sampling arrays of one row."""
        return SamplingArrays.from_options([options], self._config.eos_ids, self._cfg.llama.vocab, [stop_all_id])

    def _size(self) -> RowSize | None:
        return None if self.rows is None else RowSize(self.rows.cache.slots, self.rows.max_tokens)

    def _resize(self, size: RowSize) -> None:
        """Allocates the rows, or enlarges them."""
        if self.rows is None:
            self.rows = blank_rows(self._cfg, self._config, self.slots, *size)
        elif size != self._size():
            self.rows = enlarge_rows(self.rows, *size, self._config.pad_id)


def to_host(output: StepOutput) -> StepOutput:
    """numpy arrays of all rows. All processes of a mesh must take part."""
    if all(leaf.is_fully_addressable for leaf in output):
        return jax.device_get(output)
    return multihost_utils.process_allgather(output, tiled=True)


__all__ = ["Answer", "Engine"]
