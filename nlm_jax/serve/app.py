"""The HTTP application: health, info, predictions, streamed answers, metrics for Prometheus, and the web page."""

import contextlib
import pathlib
from collections.abc import Callable

import fastapi
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from nlm_jax import __version__
from nlm_jax.serve import contract, metrics
from nlm_jax.serve.guard import Guard
from nlm_jax.serve.server import Server, Settings
from nlm_jax.serve.stream import Lines
from nlm_jax.serve.types import Loader

WEB = pathlib.Path(__file__).with_name("web")
PAGE_HEADERS = {
    # The page loads nothing from other sites; the user's recordings are played from memory.
    "Content-Security-Policy": "default-src 'self'; media-src 'self' blob:; img-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'none'; frame-ancestors 'self'",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}


def make_app(
    load: Loader, settings: Settings, on_failure: Callable[[BaseException], None] = lambda error: None
) -> fastapi.FastAPI:
    """The application; it loads its model in the background once it starts.

    Args:
      load: loads the model.
      settings: of the server.
      on_failure: called with the error if loading fails, in the thread that loads.
    """
    server: Server | None = None

    @contextlib.asynccontextmanager
    async def life(app):
        nonlocal server
        server = app.state.server = Server(load, settings, on_failure)
        yield
        await run_in_threadpool(server.model.close)

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
    async def prometheus():
        return Response(server.metrics.text(), media_type=metrics.CONTENT_TYPE)

    @app.post("/predict")
    async def predict(request: fastapi.Request):
        async def make():
            return JSONResponse(await server.predict(request))

        return await server.reply("/predict", make)

    @app.post("/ask")
    async def ask(request: fastapi.Request):
        async def make():
            with contextlib.ExitStack() as place:
                async with server.intake.body(request) as body:
                    item = await run_in_threadpool(contract.document, body)
                    del body
                    place.enter_context(server.places(1))
                    question = await server.question({"sample_id": "page", **item})
                return Lines(server, question, place.pop_all())

        return await server.reply("/ask", make)

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page():
        return FileResponse(WEB / "index.html", headers=PAGE_HEADERS)

    @app.get("/favicon.ico", include_in_schema=False)  # browsers request it until they have read the page's own icon
    async def icon():
        return FileResponse(WEB / "icon.svg", headers=PAGE_HEADERS)

    app.mount("/web", StaticFiles(directory=WEB), name="web")
    return app
