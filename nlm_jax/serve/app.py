"""The HTTP application: health, info, predictions, streamed answers, figures for Prometheus, and the web page."""

import asyncio
import contextlib
import dataclasses
import logging
import pathlib
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import fastapi
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.requests import ClientDisconnect

from nlm_jax import __version__
from nlm_jax.audio.config import AudioConfig
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import NotFinite, UserError
from nlm_jax.serve import contract, metrics
from nlm_jax.serve.batcher import Batcher, Full, Stopped
from nlm_jax.serve.contract import Refused
from nlm_jax.serve.guard import Guard
from nlm_jax.serve.request_body import Intake, gone
from nlm_jax.serve.stream import Lines
from nlm_jax.serve.types import Answer, Loader, Question

log = logging.getLogger(__name__)
WEB = pathlib.Path(__file__).with_name("web")
PAGE_HEADERS = {
    # The page loads nothing from elsewhere; what is dropped on it is played from memory.
    "Content-Security-Policy": "default-src 'self'; media-src 'self' blob:; img-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'none'; frame-ancestors 'self'",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a server behaves."""

    name: str = "model"
    revision: str = __version__
    batch_size: int = 16
    """Questions answered together, and the most that one request may hold."""
    wait: float = 0.02
    """Seconds for which a model with nothing to do waits for more than one question."""
    queue: int = 256
    """Questions that may wait; more are turned away with 503."""
    patience: float = 300.0
    """Seconds after which a question that has no answer yet gets an error."""
    max_tokens: int = 300
    max_clips: int = 8
    """Audio inputs of one question."""
    max_body: int = 64 << 20
    """Bytes of one request; larger ones are answered with 413."""
    upload_seconds: float = 600.0
    """In which the body of a request must be there."""
    upload_rate: float = 16 * 1024.0
    """Bytes a second that a body must come with, over any ten seconds."""
    decoders: int = 4
    """Recordings decoded at a time: each may take 100 MB and more while it is."""
    hosts: tuple[str, ...] = ()
    """Names of this server besides those of `guard.LOCAL`; see `guard.Guard`."""
    audio_root: pathlib.Path | None = None
    audio: Callable[[], AudioConfig] = AudioConfig
    """Reads how the checkpoint's clips are made. It may be asked while the weights are still loading, in any thread."""

    @property
    def info(self) -> dict[str, Any]:
        """What `GET /info` says that does not change."""
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
    """What the routes share: the queue to the model, the figures, the reading of bodies."""

    def __init__(self, load: Loader, settings: Settings, on_failure: Callable[[BaseException], None]):
        self.settings = settings
        self.metrics = metrics.Metrics(
            {
                "queue_length": ("Questions that wait", lambda: self.batcher.waiting),
                "running": ("Questions that the model works on", lambda: self.batcher.running),
                "ready": ("1 once the model is loaded", lambda: self.batcher.load_status == "ready"),
                "held_bytes": ("Bytes of request bodies in memory", lambda: self.intake.held),
            }
        )
        self.intake = Intake(
            settings.max_body, 4 * settings.max_body, seconds=settings.upload_seconds, rate=settings.upload_rate
        )
        self._decoding = asyncio.Semaphore(settings.decoders)
        self._preparing = 0
        self.batcher = Batcher(
            load,
            settings.batch_size,
            settings.wait,
            settings.queue,
            observe=self.metrics.observe,
            on_failure=on_failure,
        )

    def state(self) -> dict[str, Any]:
        """How far loading is."""
        found: dict[str, Any] = {"load_status": self.batcher.load_status}
        if found["load_status"] == "loading":
            found["loading_stage"] = self.batcher.loading_stage
            found["loading_elapsed_sec"] = round(time.monotonic() - self.batcher.began, 1)
        if self.batcher.error:
            found["last_error"] = self.batcher.error
        return found

    @property
    def info(self) -> dict[str, Any]:
        """What `GET /info` says."""
        revision = self.batcher.revision or self.settings.revision
        found = self.settings.info | {"model_revision": revision} | self.state()
        if self.batcher.load_status == "ready":
            audio = self.settings.audio()
            found |= {"audio_clip_seconds": audio.seconds, "audio_resampling": audio.quality}
        return found

    async def question(self, item: dict[str, Any]) -> Question:
        """See `contract.question`; a few at a time, for what a recording takes while it is decoded."""
        s = self.settings
        async with self._decoding:
            return await run_in_threadpool(
                lambda: contract.question(item, s.audio_root, s.max_tokens, s.max_clips, s.audio())
            )

    @contextlib.contextmanager
    def places(self, count: int) -> Iterator[None]:
        """Places for so many questions while their recordings are decoded, which takes memory before it queues.

        Raises:
          Full: those that are decoded, wait and run leave no place.
        """
        busy = self._preparing + self.batcher.waiting + self.batcher.running
        if busy + count > self.settings.queue + self.settings.batch_size:
            raise Full
        self._preparing += count
        try:
            yield
        finally:
            self._preparing -= count

    async def predict(self, request: fastapi.Request) -> dict[str, Any]:
        """`POST /predict`: a response for each item.

        Raises:
          Refused, Full, Stopped, ClientDisconnect: what became of the request as a whole.
        """
        began = time.perf_counter()
        async with self.intake.body(request) as body:
            items = await run_in_threadpool(contract.envelope, body, self.settings.batch_size)
            del body
            with self.places(len(items)):
                asked = await asyncio.gather(*map(self._question, items))
                waits = self._queued(asked)
        ids = [item["sample_id"] for item in items]
        del items, asked  # only the queue holds on to the recordings
        try:
            done = asyncio.gather(*(self._response(*one, began) for one in zip(ids, waits, strict=True)))
            return {"schema_version": contract.SCHEMA, "responses": await self._unless_gone(request, done)}
        finally:
            for wait in waits:
                if not isinstance(wait, str):
                    wait.cancel()  # nobody waits for it any more; nothing where it is done

    def _queued(self, asked: list[Question | str]) -> list[asyncio.Future | str]:
        """Promises in the place of questions. Raises what `Batcher.ask` does."""
        futures = iter(self.batcher.ask([q for q in asked if not isinstance(q, str)]))
        return [q if isinstance(q, str) else asyncio.wrap_future(next(futures)) for q in asked]

    async def _question(self, item: dict[str, Any]) -> Question | str:
        """A question, or what is wrong with the item."""
        try:
            return await self.question(item)
        except UserError as error:
            self.count_error(error)
            return str(error)
        except Exception as error:  # a decoder's, on a file made to break it
            log.exception("an item could not be read")
            return f"the item could not be read ({type(error).__name__})"

    async def _response(self, ident: str, wait: str | asyncio.Future, began: float) -> dict[str, Any]:
        error = wait
        if not isinstance(wait, str):
            answer, error = await self.outcome(wait)
        took = time.perf_counter() - began
        if error:
            self.metrics.errors.inc()
            return contract.failure(ident, error, took)
        self.count(answer, took)
        return contract.response(ident, answer, took)

    async def outcome(self, wait: asyncio.Future) -> tuple[Answer | None, str]:
        """The answer, or why there is none.

        Raises:
          Stopped: the server is shutting down.
        """
        try:
            return await asyncio.wait_for(wait, self.settings.patience), ""
        except Stopped:
            raise
        except TimeoutError:
            return None, f"no answer within {self.settings.patience:g} seconds; the server is busy, try again later"
        except UserError as error:
            self.count_error(error)
            return None, str(error)
        except Exception as error:  # the model's: the other items still get their answers
            return None, f"the model failed ({type(error).__name__}: {error})"

    def count(self, answer: Answer, seconds: float) -> None:
        """An answer was given."""
        self.metrics.answers.inc()
        self.metrics.tokens.inc(answer.completion_tokens or 0)
        self.metrics.latency.observe(seconds)

    def count_error(self, error: UserError) -> None:
        """A question has an error of its own."""
        if isinstance(error, NotFinite):
            self.metrics.not_finite.inc()

    async def _unless_gone(self, request: fastapi.Request, work: asyncio.Future) -> Any:
        """The result of `work`, which is cancelled when the client goes away."""
        left = asyncio.ensure_future(gone(request))
        try:
            await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientDisconnect
            return await work
        finally:
            for task in (work, left):
                task.cancel()
            await asyncio.gather(work, left, return_exceptions=True)

    async def reply(self, path: str, make: Callable[[], Coroutine[Any, Any, Response]]) -> Response:
        """The response that `make` gives, or the one for why there is none."""
        self.metrics.requests.inc()
        try:
            response = await make()
        except Refused as error:
            response = problem(error.status, str(error))
        except Full:
            self.metrics.turned_away.inc()
            response = problem(503, "too many questions are waiting; try again")
        except Stopped:
            response = problem(503, "the server is shutting down")
        except UserError as error:
            self.count_error(error)
            response = problem(503 if self.batcher.load_status == "error" else 422, str(error))
        except ClientDisconnect:
            self.metrics.disconnected.inc()
            response = Response(status_code=499)  # nobody reads it
        self.metrics.responses.labels(path, str(response.status_code)).inc()
        return response


def problem(status: int, message: str) -> JSONResponse:
    """A response that says what is wrong."""
    return JSONResponse({"error": message}, status, headers={"Retry-After": "1"} if status == 503 else None)


def make_app(
    load: Loader, settings: Settings, on_failure: Callable[[BaseException], None] = lambda error: None
) -> fastapi.FastAPI:
    """The application around the model that `load` makes, in the background, once the application starts.

    `on_failure` is told when that fails, in the thread that loads.
    """
    server: Server | None = None

    @contextlib.asynccontextmanager
    async def life(app):
        nonlocal server
        server = app.state.server = Server(load, settings, on_failure)
        yield
        await run_in_threadpool(server.batcher.close)

    app = fastapi.FastAPI(title="nlm_jax", version=__version__, lifespan=life, docs_url=None, redoc_url=None)
    app.add_middleware(Guard, hosts=settings.hosts, refused=lambda: server.metrics.refused.inc())

    @app.api_route("/health", methods=["GET", "HEAD"])
    async def health():
        state = server.state()
        return JSONResponse(
            {"status": "ok" if state["load_status"] == "ready" else state["load_status"], **state},
            200 if state["load_status"] == "ready" else 503,
        )

    @app.get("/info")
    async def info():
        return server.info

    @app.get("/metrics")
    async def figures():
        return Response(server.metrics.text(), media_type=metrics.CONTENT_TYPE)

    @app.post("/predict")
    async def predict(request: fastapi.Request):
        async def make():
            return JSONResponse(await server.predict(request))

        return await server.reply("/predict", make)

    @app.post("/ask")
    async def ask(request: fastapi.Request):
        async def make():
            async with server.intake.body(request) as body:
                given = await run_in_threadpool(contract.document, body)
                del body
                with server.places(1):
                    asked = await server.question({"sample_id": "page", **given})
                    return Lines(server, asked)

        return await server.reply("/ask", make)

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page():
        return FileResponse(WEB / "index.html", headers=PAGE_HEADERS)

    app.mount("/web", StaticFiles(directory=WEB), name="web")
    return app
