"""`nlm serve`: serves a model over HTTP."""

import argparse
import contextlib
import functools
import logging
import pathlib
import signal
import socket
from collections.abc import Iterator

from nlm_jax.core import remote
from nlm_jax.core.errors import UserError
from nlm_jax.generate.model_args import (
    add_dtype_argument,
    add_merging_alpha_argument,
    add_model_arguments,
    load_model,
)
from nlm_jax.serve.connection import connection

EVERYWHERE = ("0.0.0.0", "::", "")
"""Values of `--host` that listen on all addresses."""
SUMMARY = "answer over HTTP, by the predictions_v1 contract of BEANS-Next, and on a web page"
MOST = {
    "max-batch-size": 1024,
    "queue": 1_000_000,
    "port": 65535,
    "max-new-tokens": 131_072,
    "max-clips": 1024,
    "max-prompt-tokens": 131_072,
    "decoders": 1024,
}
"""Flag of a whole number, at least 1 -> its largest value."""
GRACE = 30
"""Seconds that questions under way have to be answered after SIGTERM or Ctrl-C."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `nlm serve`."""
    add_model_arguments(parser)
    add_dtype_argument(parser)
    parser.add_argument(
        "--deterministic", action="store_true", help="answers are bitwise independent of concurrent requests; slower"
    )
    add_merging_alpha_argument(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="(default 8000)")
    parser.add_argument("--max-batch-size", type=int, default=16, help="questions answered together (default 16)")
    parser.add_argument(
        "--max-wait-ms",
        type=float,
        default=20.0,
        help="milliseconds that an idle model waits to fill a batch (default 20)",
    )
    parser.add_argument("--queue", type=int, default=256, help="maximum number of queued requests (default 256)")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds before a request times out (default 300)")
    parser.add_argument("--max-new-tokens", type=int, default=300, help="longest answer, in tokens (default 300)")
    parser.add_argument(
        "--max-prompt-tokens",
        type=int,
        default=2048,
        help="maximum length of a prompt in tokens, audio included (default 2048)",
    )
    parser.add_argument("--max-clips", type=int, default=8, help="recordings of one question (default 8)")
    parser.add_argument("--max-body-mb", type=float, default=64.0, help="largest request in MiB (default 64)")
    parser.add_argument(
        "--upload-timeout", type=float, default=600.0, help="seconds in which a request must be sent (default 600)"
    )
    parser.add_argument(
        "--upload-rate", type=float, default=16.0, help="minimum upload rate in KiB/s, over any 10 s (default 16)"
    )
    parser.add_argument(
        "--header-timeout",
        type=float,
        default=10.0,
        help="seconds allowed for receiving the request headers (default 10)",
    )
    parser.add_argument("--decoders", type=int, default=4, help="recordings decoded at a time (default 4)")
    parser.add_argument(
        "--allow-host", nargs="+", default=[], metavar="NAME",
        help="further names under which the server may be addressed; * = any (default: --host and this machine)",
    )  # fmt: skip
    parser.add_argument("--audio-root", type=remote.input_path, help="folder below which file_path may name recordings")


def run(args: argparse.Namespace) -> int:
    """Serves until SIGTERM or Ctrl-C; questions under way are then answered first.

    Raises:
      UserError: the extra [serve] is not installed, flags that cannot be, a port that is taken, or no such model.
    """
    check(args)
    try:
        import uvicorn

        from nlm_jax.serve.app import make_app
        from nlm_jax.serve.server import Settings
    except ImportError as error:
        raise UserError(f"nlm serve needs {error.name}; pip install 'nlm_jax[serve]'") from None
    from nlm_jax.convert.formats import audio_config
    from nlm_jax.serve.engine_backend import loader

    settings = Settings(
        audio=functools.cache(lambda: audio_config(args.model)),
        name=named(args.model),
        batch_size=args.max_batch_size,
        wait=args.max_wait_ms / 1000,
        queue=args.queue,
        patience=args.timeout,
        max_tokens=args.max_new_tokens,
        max_clips=args.max_clips,
        max_body=round(args.max_body_mb * 2**20),
        audio_root=args.audio_root,
        upload_seconds=args.upload_timeout,
        upload_rate=args.upload_rate * 1024,
        decoders=args.decoders,
        hosts=(args.host, *args.allow_host, *([socket.gethostname()] if args.host in EVERYWHERE else ())),
    )
    failed: list[BaseException] = []

    def stop(error: BaseException) -> None:
        failed.append(error)
        server.should_exit = True

    model = functools.partial(load_model, args, args.merging_alpha)
    load = loader(model, args.max_batch_size, args.max_new_tokens, args.max_prompt_tokens, args.deterministic)
    app = make_app(load, settings, on_failure=stop)
    http = connection(args.header_timeout)
    server = uvicorn.Server(uvicorn.Config(app, http=http, log_config=None, timeout_graceful_shutdown=GRACE))
    with logging_to_stderr(), listening(args.host, args.port) as sock, ending_well():
        where = f"[{args.host}]" if ":" in args.host else args.host
        logging.getLogger("uvicorn.error").info("http://%s:%d/ has a page to ask on", where, args.port)
        server.run(sockets=[sock])
    if failed:
        raise failed[0]
    return 0


def named(model: str) -> str:
    """The name of `--model` for clients: the folder's name without its path; a hub id unchanged."""
    path = pathlib.Path(model)
    return path.resolve().name if path.exists() else str(model)


def check(args: argparse.Namespace) -> None:
    """Raises UserError for invalid flags before anything is loaded."""
    for name, most in MOST.items():
        value = getattr(args, name.replace("-", "_"))
        if value < 1:
            raise UserError(f"--{name} {value}: must be at least 1")
        if value > most:
            raise UserError(f"--{name} {value}: must be at most {most}")
    for name in ("timeout", "max-body-mb", "upload-timeout", "upload-rate", "header-timeout"):
        value = getattr(args, name.replace("-", "_"))
        if not 0 < value < 1e9:
            raise UserError(f"--{name} {value:g}: must be above 0 and below 1e9")
    for host in args.allow_host:
        if not host or "/" in host:
            raise UserError(f"--allow-host {host!r}: give a name or an address, without http:// and path")
    if not 0 <= args.max_wait_ms <= 60_000:
        raise UserError(f"--max-wait-ms {args.max_wait_ms:g}: must be between 0 and 60000")
    if args.queue < args.max_batch_size:
        raise UserError(f"--queue {args.queue}: must hold a whole request; give at least {args.max_batch_size}")
    if args.audio_root and not args.audio_root.is_dir():
        raise UserError(f"--audio-root {args.audio_root}: no such folder")


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """The socket, taken before the model is loaded.

    Raises:
      UserError: the port is taken, or the address is not this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--host {host} --port {port}: cannot listen there ({reason}); choose others") from None
    with sock:
        yield sock


@contextlib.contextmanager
def logging_to_stderr() -> Iterator[None]:
    """A line for each request. (uvicorn's own configuration would close the handlers of other libraries.)"""
    handler, logger = logging.StreamHandler(), logging.getLogger("uvicorn")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    propagated, logger.propagate = logger.propagate, False  # a library may have put a handler on the root logger
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


@contextlib.contextmanager
def ending_well() -> Iterator[None]:
    """uvicorn raises the signal that ended it again, once everything is answered: that is not a failure."""
    caught = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: None) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
