"""Bodies of requests, read with bounds: on the size of each, on what all hold together, and on how slowly they come."""

import asyncio
import collections
import contextlib
import dataclasses
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from nlm_jax.serve.contract import Refused

DRAINED = 1 << 30
"""Bytes of a refused body that are still read, and thrown away: many clients look at the answer only when they have
sent everything."""
LINGER = 30.0
"""Seconds for which they are."""
WINDOW = 10.0
"""Seconds over which the rate of an upload is measured."""
IDLE = 0.25
"""Seconds without a byte after which an upload is slower than any that sends."""


@dataclasses.dataclass(eq=False)
class _Upload:
    """A body on its way."""

    began: float
    last: float
    """When its last bytes came."""
    parts: list[bytes] = dataclasses.field(default_factory=list)
    buffered: int = 0
    """Bytes in memory."""
    recent: collections.deque = dataclasses.field(default_factory=collections.deque)
    """(when, bytes) of what came within the window."""
    waits: asyncio.Timeout | None = None
    """Ends its wait for more bytes."""
    ended: bool = False
    """All of it came."""
    dropped: bool = False
    """It made way for others."""

    def add(self, part: bytes, now: float) -> None:
        self.parts.append(part)
        self.buffered, self.last = self.buffered + len(part), now
        if self.recent and now - self.recent[-1][0] < WINDOW / 100:
            self.recent[-1] = (self.recent[-1][0], self.recent[-1][1] + len(part))
        else:
            self.recent.append((now, len(part)))
        self._forget(now)

    def pace(self, now: float) -> float:
        """Bytes a second over the last window, or since it began."""
        self._forget(now)
        return sum(size for _, size in self.recent) / max(min(WINDOW, now - self.began), WINDOW / 100)

    def speed(self, now: float) -> tuple[float, float]:
        """Orders uploads, the slowest first: those that send nothing by for how long, then by pace."""
        idle = now - self.last
        return (-idle, 0.0) if idle > IDLE else (0.0, self.pace(now))

    def _forget(self, now: float) -> None:
        while self.recent and now - self.recent[0][0] > WINDOW:
            self.recent.popleft()


class Intake:
    """Reads bodies."""

    def __init__(self, limit: int, budget: int, *, seconds: float = 600.0, rate: float = 16 * 1024):
        """An intake for all requests of a server.

        Args:
          limit: bytes of one body.
          budget: bytes of all that are held at a time.
          seconds: in which a body must be there.
          rate: bytes a second that a body must come with, over any `WINDOW` seconds.
        """
        self._limit, self._budget, self._seconds, self._rate = limit, max(budget, limit), seconds, rate
        self._uploads: list[_Upload] = []
        self.buffered = 0

    @contextlib.asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """The body; it counts as held until the block ends.

        Raises:
          Refused: 413 larger than the limit; 408 too slow; 503 more than the budget is being sent at the moment, and
            this one is the slowest.
          ClientDisconnect: the client went away.
        """
        now = asyncio.get_running_loop().time()
        upload = _Upload(now, now)
        self._uploads.append(upload)
        try:
            try:
                if reason := await self._receive(request, upload):
                    self._release(upload)
                    if not upload.ended:
                        await self._drain(request, 1.0 if reason.status == 408 or upload.dropped else LINGER)
                    raise reason
            finally:
                self._uploads.remove(upload)
            body = b"".join(upload.parts)
            upload.parts.clear()
            yield body
        finally:
            self._release(upload)

    async def _receive(self, request: Request, upload: _Upload) -> Refused | None:
        """Reads the body into `upload`; why it is refused, None if it is there."""
        length, loop = request.headers.get("content-length", ""), asyncio.get_running_loop()
        if length.isdigit() and int(length[:20]) > self._limit:
            return self._too_large()
        while not upload.ended:
            try:
                until = min(upload.began + self._seconds, upload.last + WINDOW)
                async with asyncio.timeout_at(until) as upload.waits:
                    message = await request.receive()
            except TimeoutError:
                return self._full() if upload.dropped else self._too_slow()
            finally:
                upload.waits = None
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part, upload.ended = message.get("body", b""), not message.get("more_body", False)
            if upload.dropped:
                return self._full()
            upload.add(part, loop.time())
            self.buffered += len(part)
            if upload.buffered > self._limit:
                return self._too_large()
            while self.buffered > self._budget:
                slowest = min((u for u in self._uploads if u.buffered), key=lambda u: u.speed(loop.time()))
                if slowest is upload:
                    return self._full()
                self._drop(slowest)
            if not upload.ended and loop.time() - upload.began > WINDOW and upload.pace(loop.time()) < self._rate:
                return self._too_slow()
        return None

    def _drop(self, upload: _Upload) -> None:
        """Takes the memory of an upload that is not all there."""
        upload.dropped = True
        self._release(upload)
        if upload.waits is not None:
            upload.waits.reschedule(asyncio.get_running_loop().time())

    def _release(self, upload: _Upload) -> None:
        upload.parts.clear()
        self.buffered, upload.buffered = self.buffered - upload.buffered, 0

    def _too_large(self) -> Refused:
        return Refused(413, f"the body is larger than {self._limit / 2**20:g} MiB; send fewer or shorter recordings")

    @staticmethod
    def _full() -> Refused:
        return Refused(503, "too much is being sent; try again")

    @staticmethod
    def _too_slow() -> Refused:
        return Refused(408, "the body comes too slowly; send it again over a faster connection")

    @staticmethod
    async def _drain(request: Request, seconds: float) -> None:
        """Reads what is left of a refused body, for so long."""
        seen = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while seen <= DRAINED:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    seen += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        break


async def disconnected(request: Request) -> None:
    """Returns when the client goes away. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


__all__ = ["ClientDisconnect", "Intake", "disconnected"]
