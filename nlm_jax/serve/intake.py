"""Bodies of requests, read with a bound on each one's size and on what all of them hold together."""

import contextlib
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from nlm_jax.serve.contract import Refused

DRAINED = 1 << 30
"""Bytes of a body that is too large which are still read, and thrown away: many clients look at the answer only when
they have sent everything."""


class Intake:
    """Reads bodies. `limit`: bytes of one; `budget`: bytes of all that are held at a time."""

    def __init__(self, limit: int, budget: int):
        self._limit, self._budget = limit, max(budget, limit)
        self.held = 0

    @contextlib.asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """The body; it counts as held until the block ends.

        Raises:
          Refused: 413 larger than the limit, 503 more than the budget is being sent at the moment.
          ClientDisconnect: the client went away.
        """
        parts: list[bytes] = []
        taken = 0
        try:
            stream = request.stream()
            length = request.headers.get("content-length", "")
            if length.isdigit() and int(length) > self._limit:
                await self._drain(stream, self._too_large())
            async for part in stream:
                taken, self.held = taken + len(part), self.held + len(part)
                parts.append(part)
                if taken > self._limit or self.held > self._budget:
                    reason = (
                        self._too_large() if taken > self._limit else Refused(503, "too much is being sent; try again")
                    )
                    parts.clear()
                    taken, self.held = 0, self.held - taken
                    await self._drain(stream, reason)
            body = b"".join(parts)
            parts.clear()
            yield body
        finally:
            self.held -= taken

    def _too_large(self) -> Refused:
        return Refused(413, f"the body is larger than {self._limit / 2**20:g} MiB; send fewer or shorter recordings")

    @staticmethod
    async def _drain(stream: AsyncIterator[bytes], reason: Refused) -> None:
        seen = 0
        async for part in stream:
            seen += len(part)
            if seen > DRAINED:
                break
        raise reason


async def gone(request: Request) -> None:
    """Returns when the client goes away. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


__all__ = ["ClientDisconnect", "Intake", "gone"]
