"""`nlm evaluate`: a model's answers to BEANS-Zero, and what they score."""

import argparse
import json
import pathlib
from typing import Any

from nlm_jax.core import remote
from nlm_jax.core.errors import UserError

SUMMARY = "answer BEANS-Zero with a model, and score answers by its own scorer and by that of BEANS-Next"
METRICS, PREDICTIONS = "metrics.json", "predictions.jsonl"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `nlm evaluate`."""
    parser.add_argument(
        "--benchmark",
        choices=("beans-zero", "corpus"),
        default="beans-zero",
        help="corpus: the held-out part of prepared data, --data and --split",
    )
    parser.add_argument("--out", type=remote.writes, required=True, help=f"folder for {PREDICTIONS} and {METRICS}")
    made = parser.add_argument_group("answers made elsewhere")
    made.add_argument(
        "--predictions", type=remote.reads, help="JSON lines (prediction, label, id, dataset_name), or a folder of them"
    )
    model = parser.add_argument_group("answers of a model")
    model.add_argument("--model", help="official directory, export, or training run; or a hub id")
    model.add_argument("--data", help="BEANS-Zero (folder of Parquet or save_to_disk, or hub id), or prepared data")
    model.add_argument("--llm", help="Hugging Face Llama directory or hub id, where the model does not carry one")
    model.add_argument("--qformer-config", help="Q-Former sizes (JSON), where they are not bert-base's")
    model.add_argument("--split", default="valid", help="of a corpus: the one that is asked about (default valid)")
    model.add_argument("--parts", nargs="+", default=(), help="these parts only")
    model.add_argument("--limit", type=int, default=0, help="at most so many questions of each part (default: all)")
    model.add_argument("--shard", default="0/1", help="this process's share, such as 1/4; then score the folder")
    model.add_argument("--batch-size", type=int, default=16, help="questions answered together (default 16)")
    model.add_argument("--max-new-tokens", type=int, default=300, help="longest answer, in tokens (default 300)")
    model.add_argument("--num-beams", type=int, default=1, help="beams of the search (default 1: greedy)")
    model.add_argument("--merging-alpha", type=float, default=1.0, help="0 = base LLM ... 1 = trained (default 1)")
    model.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"), help="of the computation")
    parser.add_argument(
        "--vocabulary", type=remote.reads, help="JSON of part -> labels, for BEANS-Next; default: the file's own labels"
    )


def run(args: argparse.Namespace) -> int:
    """Answers what is not answered yet, scores, writes `metrics.json` and prints a table.

    Raises:
      UserError: flags that do not go together, a file that is not in the official format, no such dataset or model.
    """
    from rich.console import Console

    from nlm_jax.evaluate.beans_zero import files
    from nlm_jax.evaluate.beans_zero.score import score, tied

    if args.benchmark == "corpus":
        from nlm_jax.evaluate import held_out_run

        return held_out_run.run(args, Console())
    if bool(args.predictions) == bool(args.model):
        raise UserError("give --predictions with answers to score, or --model and --data to make them")
    console = Console()
    source = args.predictions or answered(args, console)
    answers = [a for file in listed(source) for a in files.read(file)]
    found = score(answers, files.vocabulary(args.vocabulary))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / METRICS).write_text(json.dumps(found, indent=1), encoding="utf-8")
    console.print(table(found))
    for part in found["beans_zero"]:
        rows = [answer for answer in answers if answer.dataset_name == part]
        if count := tied(part, rows):
            console.print(f"{part}: {count} of {len(rows)} answers are equally near several labels", highlight=False)
    console.print(f"{args.out / METRICS}: {len(answers)} answers scored", highlight=False)
    return 0


def listed(source: pathlib.Path) -> list[pathlib.Path]:
    """The file itself, or the prediction files of a folder, as several processes write them."""
    if not source.is_dir():
        return [source]
    found = sorted(source.glob("predictions*.jsonl"))
    if not found:
        raise UserError(f"{source}: holds no predictions*.jsonl")
    return found


def answered(args: argparse.Namespace, console) -> pathlib.Path:
    """Makes the answers that are not there yet; the file they are in."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from nlm_jax.evaluate.beans_zero import answering, dataset
    from nlm_jax.evaluate.beans_zero.parts import PARTS
    from nlm_jax.generate.api import NatureLM

    if not args.data:
        raise UserError("--model needs --data: the benchmark's folder or hub id")
    if args.limit < 0 or args.batch_size < 1:
        raise UserError("--limit must not be negative, --batch-size must be at least 1")
    number, of = answering.check_shard(args.shard)
    parts = answering.check_parts(args.parts, PARTS)
    items = answering.share(dataset.read(args.data, parts), number, of, args.limit)
    first = next(items, None)  # whatever is wrong with the data is said before a model is loaded
    if first is None:
        raise UserError(f"--data={args.data}: no question of {', '.join(parts) or 'any part'} in it")
    model = NatureLM.from_pretrained(
        args.model, llm=args.llm, dtype=args.dtype, merging_alpha=args.merging_alpha, qformer_config=args.qformer_config
    )
    options = {"max_new_tokens": args.max_new_tokens, "batch_size": args.batch_size, "num_beams": args.num_beams}

    def rest():
        yield first
        yield from items

    file = args.out / (PREDICTIONS if of == 1 else f"predictions.{number}-of-{of}.jsonl")
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("questions", total=None)
        failed = answering.answer(
            rest(), lambda sounds, asked: model.generate(sounds, asked, **options), file, args.batch_size,
            lambda count: bar.advance(task, count),
        )  # fmt: skip
    if failed:
        console.print(f"{failed} questions were left out: their audio holds no usable samples", highlight=False)
    return file


def table(found: dict[str, Any]):
    """Both scorers side by side, with what ties may have made of the first."""
    from rich.table import Table

    made = Table("part", "figure", "beans-zero", "with other ties", "beans-next", title="scores")
    for part, figures in found["beans_zero"].items():
        for name, value in figures.items():
            low, high = found["tie_interval"][part][name]
            other = f"{low:.4f} to {high:.4f}" if high > low else ""
            made.add_row(part, name, f"{value:.4f}", other, f"{found['beans_next'][part][name]:.4f}")
    return made
