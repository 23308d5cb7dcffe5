"""`nlm infer`: a question to every window of a recording or of a folder of recordings, as JSON lines."""

import argparse
import collections
import json
import pathlib
import time
from collections.abc import Iterable, Sequence

from nlm_jax.core import remote
from nlm_jax.core.errors import UserError
from nlm_jax.generate import labels
from nlm_jax.generate.windows import Window, recordings, spans, windows_of

SUMMARY = "ask a question of recordings: files or folders of any length"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `nlm infer`."""
    parser.add_argument("--model", required=True, help="official directory, export, or training run; or a hub id")
    parser.add_argument("--audio", required=True, type=remote.reads, help="a recording, or a folder of them")
    parser.add_argument("--query", required=True, help="what to ask of every window")
    parser.add_argument(
        "--out", required=True, type=remote.writes, help="JSON lines; a second run adds what is missing"
    )
    parser.add_argument(
        "--labels",
        nargs="+",
        choices=labels.FORMATS,
        default=(),
        help="write these too, equal neighbours merged",
    )
    parser.add_argument("--llm", help="Hugging Face Llama directory or hub id, where the model does not carry one")
    parser.add_argument("--window", type=float, default=10.0, help="seconds heard at a time (default 10)")
    parser.add_argument("--hop", type=float, default=10.0, help="seconds from one window to the next (default 10)")
    parser.add_argument("--batch-size", type=int, default=8, help="windows answered together (default 8)")
    parser.add_argument("--max-new-tokens", type=int, default=300, help="longest answer, in tokens (default 300)")
    parser.add_argument("--merging-alpha", type=float, default=1.0, help="0 = base LLM ... 1 = trained (default 1)")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"), help="of the computation")
    parser.add_argument("--qformer-config", help="Q-Former sizes (JSON), where they are not bert-base's")


def run(args: argparse.Namespace) -> int:
    """Answers every window that `--out` does not hold yet. A recording that cannot be read becomes an error row.

    Raises:
      UserError: wrong flags or paths, or not one recording that could be read.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if args.batch_size < 1:
        raise UserError(f"--batch-size {args.batch_size}: must be at least 1")
    if args.out.is_dir():
        raise UserError(f"--out {args.out}: is a folder; give a file such as {args.out / 'answers.jsonl'}")
    spans(0.0, args.window, args.hop)  # a wrong window or hop is said before anything is read
    console, files, done = Console(stderr=True), recordings(args.audio), answered(args.out, args.query)
    todo, errors = plan(files, args.window, args.hop, done)
    model = _load(args) if todo else None
    args.out.parent.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    with args.out.open("a", encoding="utf-8") as out:
        count = _write(out, errors)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("windows", total=len(todo))
            for start in range(0, len(todo), args.batch_size):
                batch = todo[start : start + args.batch_size]
                count += _write(out, answer(model, batch, args.query, args.max_new_tokens, args.batch_size))
                bar.advance(task, len(batch))
    there = f"; {len(done)} windows were there already" if done else ""
    console.print(f"{args.out}: {count['answers']} answers, {count['errors']} error rows{there}")
    if count["answers"]:
        heard, took = sum(w.end - w.start for w in todo) / 3600, (time.perf_counter() - begun) / 3600
        console.print(f"{heard:.2f} hours of audio, {heard / took:.1f} a hour", highlight=False)
    if count["errors"] and not count["answers"] and not done:
        raise UserError(f"{args.audio}: no recording could be read; the reasons are in {args.out}")
    for file in labels.write(args.out, args.query, args.labels) if args.labels else ():
        console.print(f"{file}: written", highlight=False)
    return 0


def _load(args):
    from nlm_jax.generate.api import NatureLM

    return NatureLM.from_pretrained(
        args.model, llm=args.llm, dtype=args.dtype, merging_alpha=args.merging_alpha, qformer_config=args.qformer_config
    )


def answered(out: pathlib.Path, query: str) -> set[tuple[str, float, float]]:
    """(file, start, end) of the windows that `out` already answers for `query`.

    Error rows are dropped, as they will be tried again, and so is a last line cut short by a crash.

    Raises:
      UserError: the file holds something else.
    """
    if not out.exists():
        return set()
    done, kept = set(), []
    lines = out.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if "error" in row:
                continue
            if row["query"] == query:
                done.add((row["file"], row["start"], row["end"]))
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines) and not line.endswith("\n"):
                continue
            raise UserError(f"{out}:{number}: not a line of nlm infer; give another --out") from error
        kept.append(line)
    if len(kept) < len(lines):
        out.write_text("".join(kept), encoding="utf-8")
    return done


def plan(
    files: Iterable[pathlib.Path], window: float, hop: float, done: set[tuple[str, float, float]]
) -> tuple[list[Window], list[dict]]:
    """Windows still to be answered, and an error row for each file that is not audio."""
    todo, errors = [], []
    for file in files:
        try:
            todo += [w for w in windows_of(file, window, hop) if (str(file), w.start, w.end) not in done]
        except UserError as error:
            errors.append({"file": str(file), "error": str(error)})
    return todo, errors


def answer(model, windows: Sequence[Window], query: str, max_new_tokens: int, batch_size: int) -> list[dict]:
    """A row for every window: its answer, or why its audio could not be read."""
    heard, rows = [], []
    for w in windows:
        try:
            heard.append((w, w.wave()))
        except UserError as error:
            rows.append({"file": str(w.file), "start": w.start, "end": w.end, "error": str(error)})
    if heard:
        audios, queries = [audio for _, audio in heard], [query] * len(heard)
        texts = model.generate(audios, queries, max_new_tokens=max_new_tokens, batch_size=batch_size)
        for (w, _), text in zip(heard, texts, strict=True):
            rows.append({"file": str(w.file), "start": w.start, "end": w.end, "query": query, "prediction": text})
    return rows


def _write(out, rows: list[dict]) -> collections.Counter:
    for row in rows:
        out.write(json.dumps(row, ensure_ascii=False) + "\n")
    out.flush()
    errors = sum("error" in row for row in rows)
    return collections.Counter(answers=len(rows) - errors, errors=errors)
