"""`nlm infer`: a question to every window of a recording or of a folder of recordings, as JSON lines."""

import argparse
import collections
import concurrent.futures
import itertools
import json
import pathlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from nlm_jax.convert.formats import audio_config
from nlm_jax.core import remote
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import printable
from nlm_jax.generate import window_labels
from nlm_jax.generate.answer_file import Answered, answered
from nlm_jax.generate.model_args import (
    add_dtype_argument,
    add_merging_alpha_argument,
    add_model_arguments,
    load_model,
)
from nlm_jax.generate.options import check_flags
from nlm_jax.generate.recording_windows import (
    Noticed,
    Window,
    all_recordings,
    chosen,
    n_spans,
    seconds_of,
    sounds,
    windows_of,
)
from nlm_jax.generate.request import NO_ANSWER, Unanswered

SUMMARY = "ask a question of recordings: files or folders of any length"
AHEAD = 4
"""Batches that are handed to the model at once: it replaces a finished answer by the next question."""
Heard = tuple[Window, np.ndarray | None, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `nlm infer`."""
    add_model_arguments(parser)
    parser.add_argument(
        "--audio",
        required=True,
        nargs="+",
        type=remote.input_path,
        help="recordings, or folders of them (with all below)",
    )
    parser.add_argument("--query", required=True, help="what to ask of every window")
    parser.add_argument(
        "--out", required=True, type=remote.output_path, help="JSON lines; a second run adds what is missing"
    )
    parser.add_argument(
        "--labels",
        nargs="+",
        choices=window_labels.FORMATS,
        default=(),
        help="write these too, equal neighbours merged",
    )
    parser.add_argument("--window", type=float, help="seconds heard at a time (default: the model's clip length)")
    parser.add_argument("--hop", type=float, help="seconds from one window to the next (default: the window)")
    parser.add_argument("--batch-size", type=int, default=8, help="windows answered together (default 8)")
    parser.add_argument("--max-new-tokens", type=int, default=300, help="longest answer, in tokens (default 300)")
    parser.add_argument("--num-beams", type=int, default=1, help="beams of the search (default 1: greedy)")
    add_merging_alpha_argument(parser)
    add_dtype_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Answers every window that `--out` does not hold yet. A recording that cannot be read becomes an error row.

    Raises:
      UserError: wrong flags or paths, or not one recording that could be read.
    """
    from rich.console import Console

    check_flags(args)
    if args.out.is_dir():
        raise UserError(f"--out {args.out}: is a folder; give a file such as {args.out / 'answers.jsonl'}")
    console = Console(stderr=True, markup=False, highlight=False)
    noticed = Noticed()
    files, done = all_recordings(args.audio, noticed.unread), answered(args.out, args.query)
    audio = audio_config(args.model)
    window, hop = chosen(args.window, args.hop, audio.seconds)
    lengths, count, errors = plan(files, window, hop, done, noticed)
    model = load_model(args, args.merging_alpha) if count else None
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("a", encoding="utf-8") as out:
        written = _write(out, errors)
        if count:
            heard = sounds(todo(lengths, window, hop, done), audio.quality, noticed)
            written += ask(args, model, heard, window, count, out, console, noticed)
    for sentence in noticed.sentences():
        console.print(f"warning: {remote.with_urls(sentence)}")
    there = f"; {len(done)} windows were there already" if len(done) else ""
    console.print(f"{remote.with_urls(args.out)}: {written['answers']} answers, {written['errors']} error rows{there}")
    if written["errors"] and not written["answers"] and not len(done):
        raise UserError(f"{args.audio[0]}: no recording could be read; the reasons are in {args.out}")
    for file in window_labels.write(args.out, args.query, args.labels) if args.labels else ():
        console.print(f"{file}: written")
    return 0


def plan(
    files: Iterable[pathlib.Path], window: float, hop: float, done: Answered, noticed: Noticed
) -> tuple[dict[pathlib.Path, float], int, list[dict]]:
    """Seconds of each recording, how many windows are still to be answered, and a row for each file that is not audio.

    Only headers are read, unless one does not say how long its recording is, and no window is made yet.
    """
    lengths, count, errors = {}, 0, []
    for file in files:
        try:
            lengths[file] = seconds_of(file, noticed)
        except UserError as error:
            errors.append({"file": printable(file), "error": str(error)})
            continue
        known = done.starts(printable(file), window)
        total = n_spans(lengths[file], window, hop)
        count += total - (sum(i * hop in known for i in range(total)) if known else 0)
    return lengths, count, errors


def todo(lengths: dict[pathlib.Path, float], window: float, hop: float, done: Answered) -> Iterator[Iterator[Window]]:
    """Of each recording the windows still to be answered, made as they are asked for."""
    for file, seconds in lengths.items():
        answers = done.starts(printable(file), window)
        yield (one for one in windows_of(file, window, hop, seconds) if one.start not in answers)


def ask(
    args, model, heard: Iterator[Heard], window: float, count: int, out, console, noticed: Noticed
) -> collections.Counter:
    """Answers windows while the next ones are read; a bar shows speed and time left."""
    from nlm_jax.core.progress import progress_bar

    written: collections.Counter = collections.Counter()
    begun, hours = time.perf_counter(), 0.0
    options = {"max_new_tokens": args.max_new_tokens, "num_beams": args.num_beams, "batch_size": args.batch_size}
    with progress_bar(console, "speed") as bar, concurrent.futures.ThreadPoolExecutor(1) as reader:
        task = bar.add_task("windows", total=count, speed="")

        def following() -> concurrent.futures.Future[list[Heard]]:
            return reader.submit(lambda: list(itertools.islice(heard, AHEAD * args.batch_size)))

        ahead = following()
        while group := ahead.result():
            ahead = following()
            written += _write(out, answer(model, group, args.query, window, noticed.rates, **options))
            hours += sum(one.end - one.start for one, _, _ in group) / 3600
            rate = hours / max(1e-9, (time.perf_counter() - begun) / 3600)
            bar.update(task, advance=len(group), speed=f"{rate:.1f} audio-hours an hour")
        bar.update(task, total=written.total())  # fewer than planned where a recording ended before
    console.print(f"{hours:.2f} hours of audio, {rate:.1f} an hour")
    return written


def answer(
    model, group: Sequence[Heard], query: str, length: float, rates: Mapping[pathlib.Path, int], **options
) -> list[dict]:
    """A row for every window in order: its answer, or why there is none.

    Args:
      length: seconds of a whole window; the last one of a recording ends with it.
      rates: Hz of each recording.
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


def _write(out, rows: list[dict]) -> collections.Counter:
    for row in rows:
        out.write(json.dumps(row, ensure_ascii=False) + "\n")
    out.flush()
    errors = sum("error" in row for row in rows)
    return collections.Counter(answers=len(rows) - errors, errors=errors)
