"""`nlm import`: weights of others -> a directory of ours."""

import argparse

from nlm_jax.convert import formats, progress
from nlm_jax.core import remote

SUMMARY = "official NatureLM, Hugging Face Llama or Microsoft BEATs weights -> a directory of ours, tensor by tensor"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nlm import`."""
    parser.add_argument("src", help="directory, .pth/.pt file, or hub id")
    parser.add_argument("--out", required=True, type=remote.output_path, help="directory to write")
    parser.add_argument(
        "--kind", default="auto", choices=("auto", *formats.KINDS), help="what SRC is; looked up by default"
    )
    add_source_arguments(parser)
    parser.add_argument(
        "--pad-rows", type=int, help="llama: rows appended to the vocabulary (default: 1 if [PAD] has none)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is in --out")


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments about what an official checkpoint leaves out."""
    parser.add_argument("--llm", help="Hugging Face Llama directory or hub id, if SRC does not include it")
    parser.add_argument("--base", help="complete official checkpoint under a trainable-only one")
    parser.add_argument("--config", help="official config.json of a bare .pth file")
    parser.add_argument("--qformer-config", help="JSON with Q-Former sizes (default: bert-base-uncased's)")
    parser.add_argument("--merging-alpha", type=float, default=1.0, help="0 = base model, 1 = trained model (default)")


def source_options(args: argparse.Namespace) -> dict:
    """Arguments of `open_checkpoint` from the flags above."""
    return {"llm": args.llm, "base": args.base, "config": args.config, "qformer_config": args.qformer_config}


def run(args: argparse.Namespace) -> int:
    """Writes the directory.

    Raises:
      UserError: from opening, checking or writing.
    """
    formats.check_free(args.out, args.overwrite)
    opened = formats.open_checkpoint(args.src, args.kind, pad_rows=args.pad_rows, **source_options(args))
    checkpoint = opened.lazily(merging_alpha=args.merging_alpha)
    with progress.tensors("importing") as tell:
        formats.save(checkpoint, args.out, "nlm", overwrite=args.overwrite, progress=tell)
    print(f"{remote.with_urls(args.out)}: {len(checkpoint.leaves)} parameters of {', '.join(checkpoint.parts)}")
    return 0
