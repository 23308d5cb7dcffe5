"""A streamed answer: a line of JSON for each piece of text, and one for the end."""

import asyncio
import contextlib
import json
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from nlm_jax.core.errors import UserError
from nlm_jax.generate.request import Answer
from nlm_jax.generate.schedule import QueueFull
from nlm_jax.serve import contract
from nlm_jax.serve.request_body import disconnected
from nlm_jax.serve.server import QUEUE_FULL, Server
from nlm_jax.serve.types import OnText, ServeQuestion

KEEP_ALIVE = 10.0
"""Seconds without text after which a keep-alive line is sent, as proxies close silent connections."""


class Lines(Response):
    """Queues a question at once, and sends lines until it is answered or the client disconnects.

    `{"text": piece}` any number of times, then `{"done": true, "text": the whole answer, ...}` with `finish_reason`,
    `usage` and `latency_sec`, or `{"error": reason}`. `{"waiting": n}` in between: questions in the queue.
    """

    media_type = "application/x-ndjson"

    def __init__(self, server: Server, question: ServeQuestion, place: contextlib.ExitStack):
        """Starts answering.

        Args:
          server: of the question.
          question: of the client.
          place: closed once the question is in the engine's queue.
        """
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._server, self._place, self._began = server, place, time.perf_counter()
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        on_text = lambda piece: loop.call_soon_threadsafe(self._pieces.put_nowait, piece)  # noqa: E731
        self._outcome = asyncio.ensure_future(self._answer(question, on_text))
        self._outcome.add_done_callback(lambda _: self._pieces.put_nowait(None))

    async def __call__(self, scope, receive, send) -> None:
        """The ASGI application that sends the lines."""
        tasks = [self._outcome]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            sending = asyncio.ensure_future(self._send(send))
            disconnect = asyncio.ensure_future(disconnected(Request(scope, receive)))
            tasks += [sending, disconnect]
            await asyncio.wait({sending, disconnect}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            else:
                self._server.metrics.disconnected.inc()
        finally:
            for task in tasks:
                task.cancel()
            self._place.close()

    async def _answer(self, question: ServeQuestion, on_text: OnText) -> tuple[Answer | None, str]:
        """The answer, or why there is none."""
        deadline = self._server.deadline()
        try:
            (queued,) = await self._server.enqueue([question], deadline, on_text)
            self._place.close()
            del question
            return await self._server.outcome(queued, deadline)
        except QueueFull:
            return None, QUEUE_FULL
        except UserError as error:  # the model could not be loaded, or the server is shutting down
            return None, str(error)

    async def _send(self, send) -> None:
        async def line(content: dict[str, Any], more: bool = True) -> None:
            body = (json.dumps(content, ensure_ascii=False) + "\n").encode()
            await send({"type": "http.response.body", "body": body, "more_body": more})

        await line({"waiting": self._server.waiting})
        while True:
            try:
                piece = await asyncio.wait_for(self._pieces.get(), KEEP_ALIVE)
            except TimeoutError:
                await line({"waiting": self._server.waiting})
                continue
            if piece is None:
                break
            await line({"text": piece})
        await line(await self._last_line(), more=False)

    async def _last_line(self) -> dict[str, Any]:
        answer, error = await self._outcome
        seconds = time.perf_counter() - self._began
        if answer is None:
            self._server.metrics.errors.inc()
            return {"error": error}
        self._server.count(answer, seconds)
        last = {"done": True, "text": answer.text, **contract.ending(answer)}
        return last | {"latency_sec": round(seconds, 6)}
