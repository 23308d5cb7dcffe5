"""The HTTP application: health, info, predictions and figures for Prometheus."""

import asyncio
import contextlib
import dataclasses
import pathlib
import threading
import time
from typing import Any

import fastapi
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse

from nlm_jax import __version__
from nlm_jax.core.dims import SAMPLE_RATE
from nlm_jax.core.errors import UserError
from nlm_jax.serve import contract
from nlm_jax.serve.batcher import Batcher, Full, Question


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a server behaves."""

    name: str = "model"
    revision: str = __version__
    batch_size: int = 16
    """Questions answered together, and the most that one request may hold."""
    wait: float = 0.02
    """Seconds for which a batch waits for more questions."""
    queue: int = 256
    """Questions that may wait; more are turned away with 503."""
    max_tokens: int = 300
    audio_root: pathlib.Path | None = None


class Counters:
    """Figures since the start, for `/metrics`."""

    def __init__(self):
        self._lock, self._values = threading.Lock(), {}

    def add(self, name: str, amount: float = 1.0) -> None:
        with self._lock:
            self._values[name] = self._values.get(name, 0.0) + amount

    def text(self, gauges: dict[str, float]) -> str:
        """Prometheus' text format."""
        with self._lock:
            lines = [f"# TYPE nlm_{name} counter\nnlm_{name} {value:g}" for name, value in sorted(self._values.items())]
        lines += [f"# TYPE nlm_{name} gauge\nnlm_{name} {value:g}" for name, value in gauges.items()]
        return "\n".join(lines) + "\n"


def make_app(model: Any, settings: Settings) -> fastapi.FastAPI:
    """The application around `model`, whose `generate(audios, queries, max_new_tokens, batch_size=...)` answers."""

    def answer(questions: list[Question]) -> list[str]:
        audios = [list(q.clips) for q in questions]
        return model.generate(
            audios, [q.text for q in questions], questions[0].max_tokens, batch_size=settings.batch_size
        )

    batcher = Batcher(answer, settings.batch_size, settings.wait, settings.queue)
    counters = Counters()

    @contextlib.asynccontextmanager
    async def life(_app):
        yield
        batcher.close()

    app = fastapi.FastAPI(title="nlm_jax", version=__version__, lifespan=life)

    @app.get("/health")
    async def health():
        return {"status": "ok"}

    @app.get("/info")
    async def info():
        return {
            "name": "nlm_jax",
            "model": settings.name,
            "model_revision": settings.revision,
            "audio_payload_types": [p for p in contract.PAYLOADS if p != "file_path" or settings.audio_root],
            "max_batch_size": settings.batch_size,
            "supports_batching": True,
            "schema_versions": [contract.SCHEMA],
            "audio_sample_rate_hz": SAMPLE_RATE,
            "load_status": "ready",
        }

    @app.get("/metrics")
    async def metrics():
        figures = {"queue_length": batcher.waiting, "batches": batcher.batches, "answers": batcher.answered}
        return PlainTextResponse(counters.text(figures))

    @app.post("/predict")
    async def predict(request: contract.Request):
        counters.add("requests_total")
        if len(request.requests) > settings.batch_size:  # before any audio is decoded
            message = f"{len(request.requests)} requests, at most {settings.batch_size} at a time"
            return JSONResponse({"error": message}, status_code=413)
        ids = [item.sample_id for item in request.requests]
        if twice := next((i for i in ids if ids.count(i) > 1), None):
            return JSONResponse({"error": f"sample_id {twice!r} is there twice"}, status_code=400)
        try:
            done = await asyncio.gather(*(one(item) for item in request.requests))
        except Full:
            counters.add("turned_away_total")
            return JSONResponse({"error": "too many questions are waiting; try again"}, status_code=503)
        return {"schema_version": contract.SCHEMA, "responses": done}

    async def one(item: contract.Item) -> dict[str, Any]:
        began = time.perf_counter()
        try:
            asked = await run_in_threadpool(contract.question, item, settings.audio_root, settings.max_tokens)
            text = await asyncio.wrap_future(batcher.ask(asked))
        except Full:
            raise
        except UserError as error:
            counters.add("errors_total")
            return {"sample_id": item.sample_id, "predictions": [], "error": str(error)}
        except Exception as error:  # the model's: the other items still get their answers
            counters.add("errors_total")
            return {"sample_id": item.sample_id, "predictions": [], "error": f"{type(error).__name__}: {error}"}
        took = time.perf_counter() - began
        counters.add("answers_total")
        counters.add("answer_seconds_total", took)
        return {"sample_id": item.sample_id, "predictions": [text], "finish_reason": "stop", "latency_sec": took}

    return app
