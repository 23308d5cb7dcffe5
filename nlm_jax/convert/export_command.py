"""`nlm export`: our weights (or any that can be imported) -> a directory for others."""

import argparse

from nlm_jax.convert import formats, progress
from nlm_jax.convert.import_command import add_source_arguments, source_options
from nlm_jax.core import remote
from nlm_jax.core.errors import UserError
from nlm_jax.core.hub import absolute

SUMMARY = "weights of ours -> the official layout, a PEFT adapter, a merged Llama, or a BEATs encoder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nlm export`."""
    parser.add_argument("src", help="directory of ours, the --workdir of a run, or anything `nlm import` reads")
    parser.add_argument("--which", choices=("best", "last"), help="of a run: its best checkpoint (default) or its last")
    parser.add_argument("--format", required=True, choices=tuple(formats.FORMATS))
    parser.add_argument("--out", required=True, type=remote.output_path, help="directory to write")
    add_source_arguments(parser)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="of the language model (default: as stored)")
    parser.add_argument("--no-pad-row", action="store_true", help="llama-merged: leave the appended [PAD] row out")
    parser.add_argument(
        "--with-base", action="store_true", help="naturelm, peft: write the language model under the adapter too"
    )
    parser.add_argument(
        "--llama-path", help="naturelm, peft: hub id or directory of that language model, to be named in the export"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is in --out")


def run(args: argparse.Namespace) -> int:
    """Writes the directory.

    Raises:
      UserError: from opening, checking or writing, or a flag that does not go with the format.
    """
    options = {"dtype": args.dtype}
    if args.no_pad_row:
        _only(args.format, ("llama-merged",), "--no-pad-row")
        options["pad_row"] = False
    if args.with_base:
        _only(args.format, ("naturelm", "peft"), "--with-base")
        options["with_base"] = True
    if args.llama_path:
        _only(args.format, ("naturelm", "peft"), "--llama-path")
        options["llama_path"] = absolute(args.llama_path)
    formats.check_free(args.out, args.overwrite)
    checkpoint = formats.open_checkpoint(args.src, which=args.which, **source_options(args)).lazily()
    with progress.tensors("exporting") as tell:
        notes = formats.save(
            checkpoint,
            args.out,
            args.format,
            merging_alpha=args.merging_alpha,
            overwrite=args.overwrite,
            progress=tell,
            **options,
        )
    print(f"{remote.with_urls(args.out)}: written as {args.format}")
    for note in notes:
        print(f"note: {note}")
    return 0


def _only(format: str, allowed: tuple[str, ...], flag: str) -> None:
    if format not in allowed:
        raise UserError(f"{flag}: goes with --format {' or '.join(allowed)} only, not with {format}")
