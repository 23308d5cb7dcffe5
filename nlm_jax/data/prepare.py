"""`nlm prepare`: recordings and annotations to ArrayRecord shards with an index and a manifest.

Pass 1 collects the clips, shard by shard they are decoded, resampled and written (a finished shard has a note in
`work/`, so that a killed run continues after it). Pass 2 writes the examples whose clips are all there, and their
token lengths. The result depends only on the annotations and the options, not on workers or interruptions.
"""

import argparse
import dataclasses
import math
import shutil
from typing import Any

import rich.console
import rich.progress

from nlm_jax.core.errors import UserError
from nlm_jax.data import holdout
from nlm_jax.data.preparation import clips, examples, manifest
from nlm_jax.data.preparation.options import Options, add_arguments
from nlm_jax.data.text import Tokenizer

__all__ = ["SUMMARY", "Options", "add_arguments", "prepare", "run"]
SUMMARY = "recordings + annotations -> ArrayRecord shards + manifest"


def run(args: argparse.Namespace) -> int:
    """Runs the command; its exit status."""
    fields = {field.name for field in dataclasses.fields(Options)}
    options = Options(**{name: value for name, value in vars(args).items() if name in fields})
    made = prepare(options, workers=args.workers, console=rich.console.Console(stderr=True))
    print(f"{args.out}: {made['examples']} examples, {made['clips']} clips, {made['hours']:.2f} h")
    if made["rejected"]["clips"] or made["rejected"]["examples"]:
        print(f"left out: {made['rejected']}; the reasons are in {args.out / 'rejects.jsonl'}")
    if options.hold_out and (rare := options.held_out[1]):
        print(f"in training only, for there is one recording of each: {', '.join(rare)}")
    return 0


def prepare(options: Options, workers: int = 1, console: rich.console.Console | None = None) -> dict[str, Any]:
    """Writes the corpus and returns its manifest; a finished directory is left as it is.

    Raises:
      UserError: unreadable annotations, no examples, nothing usable, or a directory that holds something else.
    """
    if options.shard_size < 1 or workers < 1 or not 0 <= options.max_seconds < math.inf:
        raise UserError("--shard-size and --workers must be at least 1, --max-seconds at least 0")
    holdout.check(options.hold_out)
    paths, n_examples = clips.survey(options)
    tokenizer = Tokenizer.from_pretrained(options.tokenizer)
    finished = clips.begin(options)
    if finished is not None:
        return finished
    console = console or rich.console.Console(quiet=True)
    columns = (*rich.progress.Progress.get_default_columns(), rich.progress.MofNCompleteColumn())
    with rich.progress.Progress(*columns, console=console) as progress:
        notes = clips.write_clips(options, paths, workers, progress)
        table = examples.write_examples(options, notes, tokenizer, progress, n_examples)
    made = manifest.describe(options, notes, table, tokenizer)
    clips.write_json(options.out / "manifest.json", made)  # last: a directory without it is not finished
    shutil.rmtree(options.out / "work")
    return made
