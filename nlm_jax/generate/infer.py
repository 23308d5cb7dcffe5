"""`nlm infer`: a question to every window of a recording or of a folder of recordings, as JSON lines."""

import argparse
import json
import pathlib

from nlm_jax.core.errors import UserError
from nlm_jax.generate.windows import recordings

SUMMARY = "ask a question of recordings: files or folders of any length"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `nlm infer`."""
    parser.add_argument("--model", required=True, help="official directory, export, or training run; or a hub id")
    parser.add_argument("--audio", required=True, type=pathlib.Path, help="a recording, or a folder of them")
    parser.add_argument("--query", required=True, help="what to ask of every window")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="JSON lines; a second run adds what is missing")
    parser.add_argument("--llm", help="Hugging Face Llama directory or hub id, where the model does not carry one")
    parser.add_argument("--window", type=float, default=10.0, help="seconds heard at a time (default 10)")
    parser.add_argument("--hop", type=float, default=10.0, help="seconds from one window to the next (default 10)")
    parser.add_argument("--batch-size", type=int, default=8, help="windows answered together (default 8)")
    parser.add_argument("--max-new-tokens", type=int, default=300, help="longest answer, in tokens (default 300)")
    parser.add_argument("--merging-alpha", type=float, default=1.0, help="0 = base LLM ... 1 = trained (default 1)")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"), help="of the computation")
    parser.add_argument("--qformer-config", help="Q-Former sizes (JSON), where they are not bert-base's")


def run(args: argparse.Namespace) -> int:
    """Answers every window that `--out` does not hold yet. A recording that cannot be read becomes an error row."""
    files = recordings(args.audio)
    windows_probe = Settings(args.query, args.window, args.hop)
    done = already_done(args.out, windows_probe)
    if args.batch_size < 1:
        raise UserError(f"--batch-size {args.batch_size}: must be at least 1")

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from nlm_jax.generate.api import NatureLM

    console = Console(stderr=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    failed = 0
    with args.out.open("a", encoding="utf-8") as out:

        def write(row: dict) -> None:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            out.flush()

        todo, errors = plan(files, windows_probe, done)
        for row in errors:
            write(row)
        failed += len(errors)
        if not todo:
            console.print(f"{args.out}: nothing left to do ({len(done)} windows were there)")
            return 0
        model = NatureLM.from_pretrained(
            args.model,
            llm=args.llm,
            dtype=args.dtype,
            merging_alpha=args.merging_alpha,
            qformer_config=args.qformer_config,
        )
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("windows", total=len(todo))
            for batch in batched(todo, args.batch_size):
                heard, rows = hear(batch)
                failed += len(rows)
                texts = model.answer_clips(
                    [[clip] for _, clip in heard],
                    [args.query] * len(heard),
                    max_new_tokens=args.max_new_tokens,
                    batch_size=args.batch_size,
                )
                rows += [answer_row(window, args.query, text) for (window, _), text in zip(heard, texts, strict=True)]
                for row in rows:
                    write(row)
                bar.advance(task, len(batch))
    console.print(f"{args.out}: {len(todo) - failed} answers" + (f", {failed} error rows" if failed else ""))
    return 0
