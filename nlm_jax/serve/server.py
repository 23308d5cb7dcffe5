"""State shared by the routes: the model, the admission of questions, the counters, and the reading of bodies."""

import asyncio
import contextlib
import dataclasses
import logging
import pathlib
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import fastapi
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from nlm_jax import __version__
from nlm_jax.audio.config import AudioConfig
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import NotFinite, UserError
from nlm_jax.generate.request import Answer
from nlm_jax.generate.schedule import Admission, EngineClosed, Job, QueueFull
from nlm_jax.serve import contract, metrics
from nlm_jax.serve.contract import Refused
from nlm_jax.serve.loading import BackgroundModel
from nlm_jax.serve.request_body import Intake, disconnected
from nlm_jax.serve.types import Backend, Loader, OnText, ServeQuestion

log = logging.getLogger(__name__)
QUEUE_FULL = "too many questions are waiting; try again"


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a server behaves."""

    name: str = "model"
    revision: str = __version__
    batch_size: int = 16
    """Questions answered together, and the maximum number that one request may contain."""
    wait: float = 0.02
    """Seconds for which an idle model waits for more than one question."""
    queue: int = 256
    """Questions that may wait; excess requests get 503."""
    patience: float = 300.0
    """Seconds after which a question that has no answer yet gets an error."""
    max_tokens: int = 300
    max_clips: int = 8
    """Audio inputs of one question."""
    max_body: int = 64 << 20
    """Bytes of one request; larger ones get 413."""
    upload_seconds: float = 600.0
    """Within which the body of a request must arrive."""
    upload_rate: float = 16 * 1024.0
    """Bytes per second at which a body must arrive, over any ten seconds."""
    decoders: int = 4
    """Recordings decoded at a time: each may take 100 MB and more meanwhile."""
    hosts: tuple[str, ...] = ()
    """Names of this server besides those of `guard.LOCAL`; see `guard.Guard`."""
    audio_root: pathlib.Path | None = None
    audio: Callable[[], AudioConfig] = AudioConfig
    """Reads the checkpoint's audio settings. Called in any thread, also while the weights are still loading."""

    @property
    def info(self) -> dict[str, Any]:
        """The constant part of `GET /info`."""
        return {
            "name": "nlm_jax",
            "model": self.name,
            "audio_payload_types": [p for p in contract.PAYLOADS if p != "file_path" or self.audio_root],
            "audio_sample_rate_hz": SAMPLE_RATE,
            "max_batch_size": self.batch_size,
            "max_clips": self.max_clips,
            "max_new_tokens": self.max_tokens,
            "supports_batching": True,
            "schema_versions": [contract.SCHEMA],
        }


class Server:
    """Admits questions, passes them to the engine, and turns outcomes into responses. Its methods run in one loop."""

    def __init__(self, load: Loader, settings: Settings, on_failure: Callable[[BaseException], None]):
        """Starts loading the model.

        Args:
          load: loads the model.
          settings: of the server.
          on_failure: called with the error if loading fails, in the thread that loads.
        """
        self.settings = settings
        self.metrics = metrics.Metrics(
            {
                "queue_length": ("Questions that wait", lambda: self.waiting),
                "running": ("Questions that the model works on", lambda: self.running),
                "ready": ("1 once the model is loaded", lambda: self.model.status == "ready"),
                "held_bytes": ("Bytes of request bodies in memory", lambda: self.intake.buffered),
            }
        )
        self.intake = Intake(
            settings.max_body, 4 * settings.max_body, seconds=settings.upload_seconds, rate=settings.upload_rate
        )
        self._capacity = settings.queue + settings.batch_size
        self._decoding = asyncio.Semaphore(settings.decoders)
        self._preparing = 0
        self._awaiting_model = 0
        self.model = BackgroundModel(load, Admission(self._capacity, settings.wait, self._on_start), on_failure)

    @property
    def waiting(self) -> int:
        """Questions in the engine's queue, or waiting for the model to be loaded."""
        engine = self.model.engine
        return self._awaiting_model + (engine.waiting if engine else 0)

    @property
    def running(self) -> int:
        """Questions that the model works on."""
        engine = self.model.engine
        return engine.active if engine else 0

    def state(self) -> dict[str, Any]:
        """The progress of loading."""
        state: dict[str, Any] = {"load_status": self.model.status}
        if self.model.status == "loading":
            state["loading_stage"] = self.model.stage
            state["loading_elapsed_sec"] = round(time.monotonic() - self.model.started, 1)
        if self.model.error:
            state["last_error"] = self.model.error
        return state

    @property
    def info(self) -> dict[str, Any]:
        """The content of `GET /info`."""
        info = self.settings.info | {"model_revision": self.model.revision or self.settings.revision} | self.state()
        if self.model.status == "ready":
            audio = self.settings.audio()
            info |= {"audio_clip_seconds": audio.seconds, "audio_resampling": audio.quality}
        return info

    # --- from items to requests of the engine

    @contextlib.contextmanager
    def places(self, count: int) -> Iterator[None]:
        """Admits `count` questions before their recordings are decoded, which takes memory, until they are queued.

        Raises:
          QueueFull: with those that are being decoded, wait and run there would be too many.
          UserError: the model could not be loaded, or the server is shutting down.
        """
        self.model.check()
        engine = self.model.engine
        if self._preparing + (engine.unfinished if engine else 0) + count > self._capacity:
            raise QueueFull
        self._preparing += count
        try:
            yield
        finally:
            self._preparing -= count

    async def question(self, item: dict[str, Any]) -> ServeQuestion:
        """See `contract.question`; a few at a time, as decoding a recording takes memory."""
        s = self.settings
        async with self._decoding:
            return await run_in_threadpool(
                lambda: contract.question(item, s.audio_root, s.max_tokens, s.max_clips, s.audio())
            )

    def deadline(self) -> float:
        """The time of the event loop until which a question that is queued now must be answered."""
        return asyncio.get_running_loop().time() + self.settings.patience

    async def enqueue(
        self, questions: Sequence[ServeQuestion | str], deadline: float, on_text: OnText | None = None
    ) -> list[asyncio.Future | str]:
        """Puts questions into the engine's queue, all or none, once the model is loaded.

        Args:
          questions: of one request; in the place of invalid ones the error.
          deadline: see `deadline`.
          on_text: called with each new piece of an answer.

        Returns:
          for each question the future of its answer, or its error.

        Raises:
          QueueFull, EngineClosed: none was queued.
          UserError: the model could not be loaded.
        """
        self._awaiting_model += len(questions)
        try:
            async with asyncio.timeout_at(deadline):
                backend = await self.model.backend()
        except TimeoutError:
            return [q if isinstance(q, str) else self._too_late() for q in questions]
        finally:
            self._awaiting_model -= len(questions)
        requests = [
            q if isinstance(q, str) else await run_in_threadpool(self._request, backend, q, on_text) for q in questions
        ]
        futures = iter(backend.engine.enqueue_all([r for r in requests if not isinstance(r, str)]))
        return [r if isinstance(r, str) else asyncio.wrap_future(next(futures)) for r in requests]

    def _request(self, backend: Backend, question: ServeQuestion, on_text: OnText | None) -> Job | str:
        """A request of the engine, or what is wrong with the question."""
        try:
            return backend.request(question, on_text)
        except UserError as error:
            self.count_error(error)
            return str(error)
        except Exception as error:
            log.exception("a question could not be tokenized")
            return f"the model failed ({type(error).__name__}: {error})"

    # --- answers

    async def predict(self, request: fastapi.Request) -> dict[str, Any]:
        """The content of `POST /predict`: a response for each item.

        Raises:
          Refused, QueueFull, EngineClosed, ClientDisconnect: why the request as a whole has no answer.
        """
        began = time.perf_counter()
        with contextlib.ExitStack() as place:
            async with self.intake.body(request) as body:
                items = await run_in_threadpool(contract.envelope, body, self.settings.batch_size)
                del body
                place.enter_context(self.places(len(items)))
                questions = await asyncio.gather(*map(self._question, items))
            ids = [item["sample_id"] for item in items]
            work = asyncio.ensure_future(self._responses(ids, questions, place, began))
            del items, questions  # the recordings are freed with their requests
            return {"schema_version": contract.SCHEMA, "responses": await self._unless_disconnected(request, work)}

    async def _question(self, item: dict[str, Any]) -> ServeQuestion | str:
        """A question, or what is wrong with the item."""
        try:
            return await self.question(item)
        except UserError as error:
            self.count_error(error)
            return str(error)
        except Exception as error:  # a decoder's, on a malicious file
            log.exception("an item could not be read")
            return f"the item could not be read ({type(error).__name__})"

    async def _responses(self, ids, questions, place: contextlib.ExitStack, began: float) -> list[dict[str, Any]]:
        deadline = self.deadline()
        queued = await self.enqueue(questions, deadline)
        del questions
        place.close()
        try:
            return await asyncio.gather(
                *(self._response(ident, one, deadline, began) for ident, one in zip(ids, queued, strict=True))
            )
        finally:
            for future in queued:
                if not isinstance(future, str):
                    future.cancel()  # the client is gone; without effect if it is done

    async def _response(
        self, ident: str, queued: asyncio.Future | str, deadline: float, began: float
    ) -> dict[str, Any]:
        answer, error = await self.outcome(queued, deadline)
        seconds = time.perf_counter() - began
        if answer is None:
            self.metrics.errors.inc()
            return contract.failure(ident, error, seconds)
        self.count(answer, seconds)
        return contract.response(ident, answer, seconds)

    async def outcome(self, queued: asyncio.Future | str, deadline: float) -> tuple[Answer | None, str]:
        """The answer, or why there is none.

        Raises:
          EngineClosed: the server is shutting down.
        """
        if isinstance(queued, str):
            return None, queued
        try:
            async with asyncio.timeout_at(deadline):
                return await queued, ""
        except EngineClosed:
            raise
        except TimeoutError:
            return None, self._too_late()
        except UserError as error:
            self.count_error(error)
            return None, str(error)
        except Exception as error:  # the model's: the other items still get their answers
            return None, f"the model failed ({type(error).__name__}: {error})"

    def _too_late(self) -> str:
        return f"no answer within {self.settings.patience:g} seconds; the server is busy, try again later"

    async def _unless_disconnected(self, request: fastapi.Request, work: asyncio.Future) -> Any:
        """The result of `work`, which is cancelled if the client disconnects."""
        disconnect = asyncio.ensure_future(disconnected(request))
        try:
            await asyncio.wait({work, disconnect}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientDisconnect
            return await work
        finally:
            for task in (work, disconnect):
                task.cancel()
            await asyncio.gather(work, disconnect, return_exceptions=True)

    async def reply(self, path: str, make: Callable[[], Coroutine[Any, Any, Response]]) -> Response:
        """The response of `make`, or the one for its exception."""
        self.metrics.requests.inc()
        try:
            response = await make()
        except Refused as error:
            response = problem(error.status, str(error))
        except QueueFull:
            self.metrics.turned_away.inc()
            response = problem(503, QUEUE_FULL)
        except EngineClosed:
            response = problem(503, "the server is shutting down")
        except UserError as error:
            self.count_error(error)
            response = problem(503 if self.model.status == "error" else 422, str(error))
        except ClientDisconnect:
            self.metrics.disconnected.inc()
            response = Response(status_code=499)  # for the metrics: the client is gone
        self.metrics.responses.labels(path, str(response.status_code)).inc()
        return response

    # --- metrics

    def count(self, answer: Answer, seconds: float) -> None:
        """Counts an answer."""
        self.metrics.answers.inc()
        self.metrics.tokens.inc(len(answer.ids))
        self.metrics.latency.observe(seconds)

    def count_error(self, error: UserError) -> None:
        """Counts a question with an error of its own."""
        if isinstance(error, NotFinite):
            self.metrics.not_finite.inc()

    def _on_start(self, queue_seconds: float, running: int) -> None:
        if self.model.status == "ready":  # not the questions that compile the programs
            self.metrics.observe("queue_seconds", queue_seconds)
            self.metrics.observe("batch_size", running)


def problem(status: int, message: str) -> JSONResponse:
    """A response with an error message."""
    return JSONResponse({"error": message}, status, headers={"Retry-After": "1"} if status == 503 else None)
