"""`prepare`: recordings and annotations to ArrayRecord shards with an index and a manifest.

The stages, in order:

1. survey: the annotations are read, and the recordings that their examples need are numbered (`survey`).
2. clips: recordings are decoded, resampled and written, shard by shard (`write_clips`). A finished shard has a note in
   `work/`, so that a killed run resumes after it.
3. hold-out: with `--hold-out`, the validation part is drawn among what can be used, and surveyed (`splits`).
4. duplicates: clips are compared with each other and with a benchmark (`dedup`).
5. examples: those whose clips exist are written with the lengths of their texts in tokens (`write_examples`).
6. manifest: what the directory contains (`manifest`).

The result depends on the annotations and the options only, not on workers or interruptions.
"""

import functools
import shutil
from collections.abc import Callable
from typing import Any

import rich.console

from nlm_jax.core.errors import UserError
from nlm_jax.core.files import write_json
from nlm_jax.core.progress import progress_bar
from nlm_jax.data.text import Tokenizer
from nlm_jax.prepare import manifest, notes, resume, retry, survey, write_clips, write_examples
from nlm_jax.prepare.annotations import Annotations
from nlm_jax.prepare.clip_index import ClipIndex
from nlm_jax.prepare.dedup import Repeats
from nlm_jax.prepare.options import AT_LEAST_ONE, PrepareOptions
from nlm_jax.prepare.write_clips import Recipe

WriteClips = Callable[..., None]
"""`(recipe, out, jobs, advance)`: writes the shards `jobs`, as `write_clips.write_clips` does on this machine."""


def prepare(
    options: PrepareOptions,
    workers: int = 1,
    console: rich.console.Console | None = None,
    write: WriteClips | None = None,
    retry_rejected: bool = True,
) -> dict[str, Any]:
    """Writes a prepared directory.

    A finished directory stays as it is, unless recordings that were rejected can be used now, or are rejected for
    another reason: then what they affect is written again.

    Args:
      options: what the result depends on.
      workers: threads or processes of this machine; the result does not depend on them.
      console: where progress is shown; default: nowhere.
      write: writes the missing shards; default: this machine does.
      retry_rejected: whether rejected recordings are tried again; False if this machine has no access to them.

    Returns:
      The manifest.

    Raises:
      UserError: unreadable annotations, no examples, nothing usable, or a directory with other content.
    """
    if workers < 1:
        raise UserError(AT_LEAST_ONE)
    options.check()
    console = console or rich.console.Console(quiet=True)
    log = functools.partial(console.print, markup=False, highlight=False, soft_wrap=True)

    # --- survey -------------------------------------------------------------------------------------------------------
    annotations = Annotations(options)
    surveyed = None if options.hold_out else survey.survey(annotations)
    paths = list(surveyed.paths) if surveyed else survey.candidate_recordings(annotations)
    if annotations.report.read_as:
        log(annotations.report.read_as)
    tokenizer = Tokenizer.from_pretrained(options.tokenizer)

    # --- a directory that is finished, interrupted or new -------------------------------------------------------------
    key = resume.resume_key(options, annotations.source)
    recipe = Recipe.of(options, annotations.root)
    finished = resume.open_output(annotations, key)
    if finished is not None:
        changed = retry.count_changed(annotations, recipe, paths, finished) if retry_rejected else 0
        if not changed:
            log(retry.describe_finished(options, finished))
            return finished
        log(f"{options.out}: was finished, but what was rejected is different now ({changed}); that is prepared again")
        retry.reopen(options, paths, finished)
    retry.discard_stale(options, recipe if retry_rejected else None, paths)

    with progress_bar(console) as progress:
        # --- clips ----------------------------------------------------------------------------------------------------
        jobs = write_clips.missing_shards(paths, options.out, options.shard_size)
        done = len(paths) - sum(len(missing) for _, missing in jobs)
        task = progress.add_task("clips", total=len(paths), completed=done)
        write = write or functools.partial(write_clips.write_clips, workers=workers)
        write(recipe, options.out, jobs, functools.partial(progress.advance, task))

        # --- hold-out -------------------------------------------------------------------------------------------------
        if surveyed is None:
            surveyed = _hold_out(annotations, paths)

        # --- duplicates, examples -------------------------------------------------------------------------------------
        clips = ClipIndex(options, surveyed)
        repeats = Repeats(annotations, surveyed, clips)
        task = progress.add_task("examples", total=surveyed.examples)
        advance = functools.partial(progress.advance, task)
        table, left_out = write_examples.write_examples(annotations, surveyed, clips, repeats, tokenizer, advance)

    # --- manifest -----------------------------------------------------------------------------------------------------
    content = manifest.describe(annotations, key, clips, repeats, table, left_out, tokenizer)
    content["annotations"]["read_sha256"] = retry.reading_digest(annotations, paths)
    if annotations.source.is_dir():
        names = list(surveyed.paths)
        used = (names[number] for number in set(clips.recording))
        content["annotations"]["sha256_of_used"] = resume.digest_of_used(annotations, used)
    write_json(options.out / "manifest.json", content)  # last: a directory without it is not finished
    shutil.rmtree(options.out / "work")
    return content


def _hold_out(annotations: Annotations, paths: list[str]) -> survey.Survey:
    """Draws the held-out part, surveys the examples, and removes clips that none of them needs."""
    options = annotations.options
    shard_count = -(-len(paths) // options.shard_size)
    if options.duplicates == "drop":  # copies go to the same part: only one of them is kept
        annotations.division.copies = notes.copies(options.out, shard_count)
    survey.draw_held_out(annotations, paths, notes.rejected(options.out, shard_count))
    surveyed = survey.survey(annotations, paths)
    needed = {path for path, code in zip(paths, surveyed.splits, strict=True) if code}
    notes.remove_unused(options.out, shard_count, needed)
    return surveyed
