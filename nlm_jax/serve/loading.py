"""Loading the model in the background, while the server already answers."""

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable

from nlm_jax.core.errors import UserError
from nlm_jax.generate.schedule import Admission, EngineClosed, Scheduler
from nlm_jax.serve.types import Backend, Loader

log = logging.getLogger(__name__)


class BackgroundModel:
    """A backend that a thread loads; requests await it."""

    def __init__(
        self, load: Loader, admission: Admission, on_failure: Callable[[BaseException], None] = lambda error: None
    ):
        """Starts loading.

        Args:
          load: loads the backend.
          admission: of its engine.
          on_failure: called with the error if loading fails, in the thread that loads.
        """
        self._load, self._admission, self._on_failure = load, admission, on_failure
        self.status, self.stage, self.error = "loading", "starting", ""
        self.started = time.monotonic()
        self._loaded: concurrent.futures.Future[Backend] = concurrent.futures.Future()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="nlm-load", daemon=True)
        self._thread.start()

    async def backend(self) -> Backend:
        """Waits until the backend is loaded.

        Raises:
          UserError: it could not be loaded.
          EngineClosed: the server is shutting down.
        """
        if not self._loaded.done():
            await asyncio.shield(asyncio.wrap_future(self._loaded))
        self.check()
        return self._loaded.result()

    def check(self) -> None:
        """Raises what `backend` would raise, without waiting."""
        if self._closed:
            raise _closing()
        if self._loaded.done():
            self._loaded.result()

    @property
    def engine(self) -> Scheduler | None:
        """The backend's engine; None until it is loaded."""
        return self._loaded.result().engine if self.status == "ready" else None

    @property
    def revision(self) -> str:
        """The revision of the weights; "" until they are loaded."""
        return self._loaded.result().revision if self.status == "ready" else ""

    def close(self, timeout: float = 10.0) -> None:
        """Ends the backend; unfinished requests fail with `EngineClosed`.

        Args:
          timeout: seconds to wait for a backend that is still loading.
        """
        self._closed = True
        self._settle(error=_closing())
        self._thread.join(timeout)
        if self.status == "ready":
            self._loaded.result().close(_closing())

    def _work(self) -> None:
        try:
            backend = self._load(self._set_stage, self._admission)
        except BaseException as error:
            if not isinstance(error, UserError):
                log.exception("loading the model failed")
            self.error = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            self.status = "error"
            self._settle(error=UserError(f"the model could not be loaded: {self.error}"))
            self._on_failure(error)
            return
        if self._settle(backend):
            self.stage = ""
        else:
            backend.close(_closing())

    def _set_stage(self, stage: str) -> None:
        self.stage = stage

    def _settle(self, backend: Backend | None = None, error: Exception | None = None) -> bool:
        """Sets the result of loading. Returns False if there is one already."""
        with self._lock:
            if self._loaded.done():
                return False
            if error is not None:
                self._loaded.set_exception(error)
            else:
                self._loaded.set_result(backend)
                self.status = "ready"
            return True


def _closing() -> EngineClosed:
    return EngineClosed("the server is shutting down")
