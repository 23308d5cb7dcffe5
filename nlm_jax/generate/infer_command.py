"""`nlm infer`: asks a model about every window of recordings, and writes the answers as JSON lines."""

import argparse
import collections
import concurrent.futures
import itertools
import json
import pathlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TextIO

from nlm_jax.convert.formats import audio_config
from nlm_jax.core import remote
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import printable
from nlm_jax.generate import window_labels
from nlm_jax.generate.answer_file import AnsweredWindows, answered_windows
from nlm_jax.generate.model_args import (
    add_dtype_argument,
    add_merging_alpha_argument,
    add_model_arguments,
    load_model,
)
from nlm_jax.generate.options import check_flags
from nlm_jax.generate.recording_windows import (
    Notices,
    ReadWindow,
    Window,
    all_recordings,
    duration,
    n_spans,
    read_windows,
    window_and_hop,
    windows_of,
)
from nlm_jax.generate.request import NO_ANSWER, Unanswered

SUMMARY = "ask a question of recordings: files or folders of any length"
BATCHES = 4
"""Batches in one call of the model, which replaces a finished answer by the next query."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `nlm infer`."""
    add_model_arguments(parser)
    parser.add_argument(
        "--audio",
        required=True,
        nargs="+",
        type=remote.input_path,
        help="recordings, or folders of them (with subfolders)",
    )
    parser.add_argument("--query", required=True, help="the question about every window")
    parser.add_argument(
        "--out", required=True, type=remote.output_path, help="JSON lines; a second run adds what is missing"
    )
    parser.add_argument(
        "--labels",
        nargs="+",
        choices=window_labels.FORMATS,
        default=(),
        help="also write these formats, identical answers of adjacent windows merged",
    )
    parser.add_argument("--window", type=float, help="seconds per question (default: the model's clip length)")
    parser.add_argument("--hop", type=float, help="seconds from one window to the next (default: the window)")
    parser.add_argument("--batch-size", type=int, default=8, help="windows answered together (default 8)")
    parser.add_argument("--max-new-tokens", type=int, default=300, help="longest answer, in tokens (default 300)")
    parser.add_argument("--num-beams", type=int, default=1, help="beams of the search (default 1: greedy)")
    add_merging_alpha_argument(parser)
    add_dtype_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Answers every window that `--out` does not have yet. A recording that cannot be read becomes an error row.

    Raises:
      UserError: invalid flags or paths, or no recording could be read.
    """
    from rich.console import Console

    check_flags(args)
    if args.out.is_dir():
        raise UserError(f"--out {args.out}: is a folder; give a file such as {args.out / 'answers.jsonl'}")
    console = Console(stderr=True, markup=False, highlight=False)
    notices = Notices()
    files, answered = all_recordings(args.audio, notices.unread), answered_windows(args.out, args.query)
    audio = audio_config(args.model)
    window, hop = window_and_hop(args.window, args.hop, audio.seconds)
    lengths, count, errors = plan(files, window, hop, answered, notices)
    model = load_model(args, args.merging_alpha) if count else None
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("a", encoding="utf-8") as out:
        counts = _write(out, errors)
        if count:
            windows = read_windows(unanswered(lengths, window, hop, answered), audio.quality, notices)
            counts += answer_all(args, model, windows, window, count, out, console, notices)
    for sentence in notices.sentences():
        console.print(f"warning: {remote.with_urls(sentence)}")
    earlier = f"; {len(answered)} windows were there already" if len(answered) else ""
    console.print(f"{remote.with_urls(args.out)}: {counts['answers']} answers, {counts['errors']} error rows{earlier}")
    if counts["errors"] and not counts["answers"] and not len(answered):
        raise UserError(f"{args.audio[0]}: no recording could be read; the reasons are in {args.out}")
    for file in window_labels.write(args.out, args.query, args.labels) if args.labels else ():
        console.print(f"{file}: written")
    return 0


def plan(
    files: Iterable[pathlib.Path], window: float, hop: float, answered: AnsweredWindows, notices: Notices
) -> tuple[dict[pathlib.Path, float], int, list[dict]]:
    """Counts the windows without an answer. Reads headers only, unless one lacks the length of its recording.

    Args:
      files: recordings.
      window, hop: in seconds.
      answered: windows that have an answer.
      notices: collects warnings about the recordings.

    Returns:
      the seconds of each recording, the number of windows without an answer, and an error row for each file that is
      not audio.
    """
    lengths, count, errors = {}, 0, []
    for file in files:
        try:
            lengths[file] = duration(file, notices)
        except UserError as error:
            errors.append({"file": printable(file), "error": str(error)})
            continue
        starts = answered.starts(printable(file), window)
        total = n_spans(lengths[file], window, hop)
        count += total - (sum(i * hop in starts for i in range(total)) if starts else 0)
    return lengths, count, errors


def unanswered(
    lengths: Mapping[pathlib.Path, float], window: float, hop: float, answered: AnsweredWindows
) -> Iterator[Iterator[Window]]:
    """Per recording, an iterator over its windows without an answer.

    Args:
      lengths: recording -> seconds.
      window, hop: in seconds.
      answered: windows that have an answer.
    """
    for file, seconds in lengths.items():
        starts = answered.starts(printable(file), window)
        yield (w for w in windows_of(file, window, hop, seconds) if w.start not in starts)


def answer_all(
    args: argparse.Namespace,
    model,
    windows: Iterator[ReadWindow],
    window: float,
    count: int,
    out: TextIO,
    console,
    notices: Notices,
) -> collections.Counter:
    """Answers windows while the next ones are read; a progress bar shows speed and remaining time.

    Args:
      args: flags of the command.
      model: a `NatureLM`.
      windows: those without an answer.
      window: seconds of a whole window.
      count: expected number of windows.
      out: the file to which rows are appended.
      console: for the progress bar.
      notices: the sample rates of the recordings.

    Returns:
      the number of "answers" and "errors" written.
    """
    from nlm_jax.core.progress import progress_bar

    counts: collections.Counter = collections.Counter()
    start, hours = time.perf_counter(), 0.0
    options = {"max_new_tokens": args.max_new_tokens, "num_beams": args.num_beams, "batch_size": args.batch_size}
    with progress_bar(console, "speed") as bar, concurrent.futures.ThreadPoolExecutor(1) as reader:
        task = bar.add_task("windows", total=count, speed="")

        def read_next() -> concurrent.futures.Future[list[ReadWindow]]:
            return reader.submit(lambda: list(itertools.islice(windows, BATCHES * args.batch_size)))

        future = read_next()
        while group := future.result():
            future = read_next()
            counts += _write(out, answer(model, group, args.query, window, notices.rates, **options))
            hours += sum(w.end - w.start for w, _, _ in group) / 3600
            rate = hours / max(1e-9, (time.perf_counter() - start) / 3600)
            bar.update(task, advance=len(group), speed=f"{rate:.1f} audio-hours an hour")
        bar.update(task, total=counts.total())  # fewer than planned if a recording ended early
    console.print(f"{hours:.2f} hours of audio, {rate:.1f} an hour")
    return counts


def answer(
    model, group: Sequence[ReadWindow], query: str, length: float, rates: Mapping[pathlib.Path, int], **options
) -> list[dict]:
    """Rows of the answer file, one per window in order: its answer, or why there is none.

    Args:
      model: a `NatureLM`.
      group: windows with their audio.
      query: the question about each.
      length: seconds of a whole window; the last one of a recording ends with it.
      rates: sample rate in Hz of each recording.
      options: those of `NatureLM.generate`.
    """
    audios = [audio for _, audio, _ in group if audio is not None]
    try:
        texts = iter(model.generate(audios, [query] * len(audios), **options) if audios else ())
    except Unanswered as error:
        texts = iter([answer and answer.text for answer in error.answers])
    rows = []
    for window, audio, reason in group:
        row = {"file": printable(window.file), "start": window.start, "end": window.end}
        text = None if audio is None else next(texts)
        if text is None:
            rows.append(row | {"error": reason if audio is None else NO_ANSWER})
        else:
            row |= {"window": length, "sample_rate": rates[window.file]}
            rows.append(row | {"query": query, "prediction": text})
    return rows


def _write(out: TextIO, rows: Sequence[dict]) -> collections.Counter:
    for row in rows:
        out.write(json.dumps(row, ensure_ascii=False) + "\n")
    out.flush()
    errors = sum("error" in row for row in rows)
    return collections.Counter(answers=len(rows) - errors, errors=errors)
