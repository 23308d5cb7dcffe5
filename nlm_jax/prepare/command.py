"""`nlm prepare`: recordings and annotations to ArrayRecord shards with an index and a manifest.

Pass 1 collects the clips, shard by shard they are decoded, resampled and written (a finished shard has a note in
`work/`, so that a killed run continues after it). Pass 2 writes the examples whose clips are all there, and their
token lengths. The result depends only on the annotations and the options, not on workers or interruptions.
"""

import argparse
import contextlib
import dataclasses
import functools
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import rich.console
import rich.progress

from nlm_jax.core import hub, remote
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import write_json
from nlm_jax.data.text import Tokenizer
from nlm_jax.prepare import beam_runner, manifest, notes, retry, source_report, survey, write_clips, write_examples
from nlm_jax.prepare.dedup import Repeats
from nlm_jax.prepare.options import Options, add_arguments

__all__ = ["SUMMARY", "Options", "add_arguments", "prepare", "report", "run"]
Convert = Callable[..., None]
SUMMARY = "recordings + annotations -> ArrayRecord shards + manifest"


def run(args: argparse.Namespace) -> int:
    """Runs the command; its exit status."""
    with contextlib.ExitStack() as stack:
        args.benchmark = hub.dataset_path(args.benchmark, "--benchmark=") if args.benchmark else None
        convert = _beam(args, stack) if args.runner == "beam" else _local(args)
        fields = {field.name for field in dataclasses.fields(Options)}
        options = Options(**{name: value for name, value in vars(args).items() if name in fields})
        reached = not (isinstance(convert, functools.partial) and convert.keywords["root"])
        made = prepare(options, args.workers, rich.console.Console(stderr=True), convert, reached)
    print(f"{remote.with_urls(args.out)}: {made['examples']} examples, {made['clips']} clips, {made['hours']:.2f} h")
    if made["rejected"]["clips"] or made["rejected"]["examples"]:
        print(f"left out: {made['rejected']}; the reasons are in {remote.with_urls(args.out / 'rejects.jsonl')}")
    if not options.split and not any(map(options.training, made["splits"])):
        print(f"no example is for training: all are of split {', '.join(made['splits'])}; --training-splits says which")
    for line in report(made):
        print(line)
    return 0


def report(made: dict[str, Any]) -> list[str]:
    """What a manifest says was found in training that should not be there, a line a check."""
    lines = source_report.notices(made["audio"])
    if rare := made.get("hold_out", {}).get("training_only"):
        lines.append(f"in training only, for there is one recording of each: {', '.join(rare)}")
    if (found := made.get("held_out_taxa")) and found["examples_dropped"]:
        lines.append(f"held-out taxa: {found['examples_dropped']} examples dropped ({_counts(found['by_reason'])})")
    if found := made.get("leakage"):
        clips_, named = sum(found["clips"].values()), sum(found["examples"].values())
        lines.append(
            f"benchmark {found['benchmark']}: {clips_} clips sound like its own, {named} examples bear its names; "
            f"{found['examples_dropped']} examples dropped, listed in leakage.jsonl"
        )
    if (found := made.get("duplicates")) and sum(sum(found[kind].values()) for kind in ("exact", "near")):
        kinds = ", ".join(f"{kind} {_counts(found[kind])}" for kind in ("exact", "near"))
        lines.append(f"duplicates: {kinds} splits; {found['examples_dropped']} examples dropped; see duplicates.jsonl")
    return lines


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _local(args: argparse.Namespace) -> None:
    """Fetches what is read from buckets, and has what is written sent there."""
    if args.beam_args:
        raise UserError("--beam-args goes with --runner=beam; give both, or neither")
    args.annotations = remote.local_with_folder(args.annotations)
    args.audio_root = remote.local(args.audio_root) if args.audio_root else None
    args.out = remote.local_output(args.out)


def _beam(args: argparse.Namespace, stack: contextlib.ExitStack) -> Convert:
    """The same for workers elsewhere: recordings and clips in buckets pass by this machine."""
    flags = beam_runner.pipeline_options(args.beam_args)
    root = args.audio_root if args.audio_root and remote.is_remote(args.audio_root) else None
    out = args.out if remote.is_remote(args.out) else None
    args.annotations = remote.local(args.annotations) if root else remote.local_with_folder(args.annotations)
    args.audio_root = pathlib.Path(args.audio_root) if args.audio_root and not root else None
    args.out = stack.enter_context(beam_runner.bucket(out)) if out else pathlib.Path(args.out)
    return functools.partial(beam_runner.convert, flags=flags, root=root, out=out)


def prepare(
    options: Options,
    workers: int = 1,
    console: rich.console.Console | None = None,
    convert: Convert | None = None,
    retried: bool = True,
) -> dict[str, Any]:
    """Writes the corpus and returns its manifest; a finished directory is left as it is, unless recordings that were
    rejected can be used now, or are rejected for another reason: what they change is made again.

    Args:
      options: what the result depends on.
      workers: threads or processes of this machine; they change nothing of the result.
      console: where progress is shown; default nowhere.
      convert: what writes the shards that are missing, `(options, jobs, advance)`; default this machine.
      retried: whether rejected recordings are tried again; not if they are where this machine does not reach them.

    Raises:
      UserError: unreadable annotations, no examples, nothing usable, or a directory that holds something else.
    """
    if workers < 1:
        raise UserError("--shard-size and --workers must be at least 1, --max-seconds at least 0")
    options = dataclasses.replace(options)  # what an earlier run found out is not remembered
    options.check()
    console = console or rich.console.Console(quiet=True)
    columns = (*rich.progress.Progress.get_default_columns(), rich.progress.MofNCompleteColumn())
    found = None if options.hold_out else survey.survey(options)
    paths = found.paths if found else survey.candidates(options)
    if options.report.read_as:
        console.print(options.report.read_as, markup=False, highlight=False, soft_wrap=True)
    tokenizer = Tokenizer.from_pretrained(options.tokenizer)
    finished = write_clips.begin(options)
    changed = retry.changed(options, paths, finished) if retried else 0
    say = functools.partial(console.print, markup=False, highlight=False, soft_wrap=True)
    if changed:
        say(f"{options.out}: was finished, but what was rejected is different now ({changed}); that is prepared again")
    elif finished is not None:
        say(f"{options.out}: {retry.already(options, finished)}")
        return finished
    if finished is not None:
        retry.reopen(options, list(paths), finished)
    retry.discard(options, list(paths), retried)
    with rich.progress.Progress(*columns, console=console) as progress:
        _clips(options, list(paths), convert or functools.partial(write_clips.write_clips, workers=workers), progress)
        count = -(-len(paths) // options.shard_size)
        if found is None:
            if options.duplicates == "drop":  # of what has one sound, one recording stays: all of it is in one part
                options.division.copies = notes.copies(options.out, count)
            survey.divide(options, paths, notes.rejected(options.out, count))
            found = survey.survey(options, paths)
            notes.keep(options.out, count, {path for path, code in zip(paths, found.splits, strict=True) if code})
        written = write_clips.Clips(options, found)
        repeats = Repeats(options, found, written)
        task = progress.add_task("examples", total=found.examples)
        advance = functools.partial(progress.advance, task)
        table = write_examples.write_examples(options, found, written, repeats, tokenizer, advance)
    made = manifest.describe(options, written, repeats, table, tokenizer)
    made["annotations"]["read_sha256"] = retry.reading(options, paths)
    if options.source.is_dir():
        names = list(found.paths)
        made["annotations"]["sha256_of_used"] = write_clips.of_used(options, (names[k] for k in set(written.path)))
    write_json(options.out / "manifest.json", made)  # last: a directory without it is not finished
    shutil.rmtree(options.out / "work")
    return made


def _clips(options: Options, paths: list[str], convert: Convert, progress: rich.progress.Progress) -> None:
    """Writes the shards of clips that are missing."""
    todo = write_clips.jobs(paths, options.out, options.shard_size)
    task = progress.add_task("clips", total=len(paths))
    progress.advance(task, len(paths) - sum(len(part) for _, part in todo))
    convert(options, todo, advance=functools.partial(progress.advance, task))
