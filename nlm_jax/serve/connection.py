"""A connection of uvicorn's whose client has a limited time to say what it wants."""

import asyncio


def connection(patience: float) -> type[asyncio.Protocol]:
    """uvicorn's protocol, which closes itself if the headers of a request are not there after `patience` seconds.

    uvicorn itself waits for ever, and each open connection takes one of the files that a process may have. Between two
    requests its own limit counts, until the first byte of the next comes.
    """
    from uvicorn.protocols.http import h11_impl

    class Connection(h11_impl.H11Protocol):
        """Has a timer while headers are awaited."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._timer is not None:
                self._timer.cancel()
            super().connection_lost(exc)

        def _watch(self) -> None:
            """Has the timer run if, and only if, headers are awaited and uvicorn does not count itself."""
            awaited = self.conn.their_state is h11_impl.h11.IDLE and self.timeout_keep_alive_task is None
            if not awaited and self._timer is not None:
                self._timer.cancel()
                self._timer = None
            elif awaited and self._timer is None:
                self._timer = self.loop.call_later(patience, self._give_up)

        def _give_up(self) -> None:
            if not self.transport.is_closing():
                self.transport.close()

    return Connection
