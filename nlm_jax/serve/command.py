"""`nlm serve`: a model behind HTTP."""

import argparse
import math
import socket

from nlm_jax.core import remote
from nlm_jax.core.errors import UserError

SUMMARY = "answer over HTTP, by the predictions_v1 contract of BEANS-Next"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `nlm serve`."""
    parser.add_argument("--model", required=True, help="official directory, export, or training run; or a hub id")
    parser.add_argument("--llm", help="Hugging Face Llama directory or hub id, where the model does not carry one")
    parser.add_argument("--qformer-config", help="Q-Former sizes (JSON), where they are not bert-base's")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"), help="of the computation")
    parser.add_argument("--merging-alpha", type=float, default=1.0, help="0 = base LLM ... 1 = trained (default 1)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="(default 8000)")
    parser.add_argument("--max-batch-size", type=int, default=16, help="questions answered together (default 16)")
    parser.add_argument("--max-wait-ms", type=float, default=20.0, help="a batch waits so long for more (default 20)")
    parser.add_argument("--queue", type=int, default=256, help="questions that may wait (default 256)")
    parser.add_argument("--max-new-tokens", type=int, default=300, help="longest answer, in tokens (default 300)")
    parser.add_argument("--audio-root", type=remote.reads, help="folder below which file_path may name recordings")


def run(args: argparse.Namespace) -> int:
    """Serves until it is stopped.

    Raises:
      UserError: the extra [serve] is not installed, or flags that cannot be.
    """
    for name in ("max-batch-size", "queue", "port", "max-new-tokens"):
        if getattr(args, name.replace("-", "_")) < 1:
            raise UserError(f"--{name} {getattr(args, name.replace('-', '_'))}: must be at least 1")
    if not 0 <= args.max_wait_ms < math.inf:
        raise UserError(f"--max-wait-ms {args.max_wait_ms:g}: must be a number of milliseconds, 0 or more")
    if args.audio_root and not args.audio_root.is_dir():
        raise UserError(f"--audio-root {args.audio_root}: no such folder")
    try:
        import uvicorn

        from nlm_jax.serve.app import Settings, make_app
    except ImportError as error:
        raise UserError(f"nlm serve needs {error.name}; pip install 'nlm_jax[serve]'") from None
    check_address(args.host, args.port)  # before the model, which takes long
    from nlm_jax.generate.api import NatureLM

    model = NatureLM.from_pretrained(
        args.model, llm=args.llm, dtype=args.dtype, merging_alpha=args.merging_alpha, qformer_config=args.qformer_config
    )
    settings = Settings(
        name=str(args.model),
        batch_size=args.max_batch_size,
        wait=args.max_wait_ms / 1000,
        queue=args.queue,
        max_tokens=args.max_new_tokens,
        audio_root=args.audio_root,
    )
    uvicorn.run(make_app(model, settings), host=args.host, port=args.port, log_level="info")
    return 0


def check_address(host: str, port: int) -> None:
    """Raises UserError where nothing can listen: no such address or port, or one that is in use."""
    if port > 65_535:
        raise UserError(f"--port {port}: must be at most 65535")
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--host {host} --port {port}: cannot listen there ({reason}); choose another") from error
