"""One answer as it is made: a line of JSON for each piece of text, and one for how it ended."""

import asyncio
import json
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from nlm_jax.serve.batcher import Stopped
from nlm_jax.serve.request_body import gone
from nlm_jax.serve.types import Question

ALIVE = 10.0
"""Seconds of silence after which a line says that the question still waits, for proxies that would hang up."""


class Lines(Response):
    """Asks when it is made (raises `Full` then), and sends lines until the answer is there or the client goes away.

    `{"text": piece}` any number of times, then `{"done": true, "text": the whole answer, ...}` with `finish_reason`,
    `usage` and `latency_sec`, or `{"error": why}`. `{"waiting": n}` in between: questions in the queue.
    """

    media_type = "application/x-ndjson"

    def __init__(self, server: Any, question: Question):
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._server, self._began = server, time.perf_counter()
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        send = lambda piece: loop.call_soon_threadsafe(self._pieces.put_nowait, piece)  # noqa: E731
        (future,) = server.batcher.ask([question], send)
        self._answer = asyncio.wrap_future(future)
        self._answer.add_done_callback(lambda _: self._pieces.put_nowait(None))

    async def __call__(self, scope, receive, send) -> None:
        """The ASGI application that sends the lines."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        sending = asyncio.ensure_future(self._send(send))
        left = asyncio.ensure_future(gone(Request(scope, receive)))
        try:
            await asyncio.wait({sending, left}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            else:
                self._server.metrics.disconnected.inc()
        finally:
            for task in (sending, left, self._answer):
                task.cancel()

    async def _send(self, send) -> None:
        async def line(content: dict[str, Any], more: bool = True) -> None:
            body = (json.dumps(content, ensure_ascii=False) + "\n").encode()
            await send({"type": "http.response.body", "body": body, "more_body": more})

        await line({"waiting": self._server.batcher.waiting})
        deadline = self._began + self._server.settings.patience
        while True:
            try:
                quiet = min(ALIVE, max(0.0, deadline - time.perf_counter()))
                piece = await asyncio.wait_for(self._pieces.get(), quiet)
            except TimeoutError:
                if time.perf_counter() >= deadline:
                    break
                await line({"waiting": self._server.batcher.waiting})
                continue
            if piece is None:
                break
            await line({"text": piece})
        await line(await self._end(), more=False)

    async def _end(self) -> dict[str, Any]:
        if not self._answer.done():
            self._answer.cancel()
            self._server.metrics.errors.inc()
            return {"error": f"no answer within {self._server.settings.patience:g} seconds; try again later"}
        try:
            answer, error = await self._server.outcome(self._answer)
        except Stopped:
            answer, error = None, "the server is shutting down"
        took = time.perf_counter() - self._began
        if error:
            self._server.metrics.errors.inc()
            return {"error": error}
        self._server.count(answer, took)
        found = {"done": True, "text": answer.text, "finish_reason": answer.finish_reason, "usage": answer.usage}
        return found | {"latency_sec": round(took, 6)}
