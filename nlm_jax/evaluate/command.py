"""`nlm evaluate`: a model's answers to BEANS-Zero, and what they score."""

import argparse
from typing import Any

from nlm_jax.core import remote
from nlm_jax.core.errors import UserError
from nlm_jax.generate.model_args import add_dtype_argument, add_model_arguments

SUMMARY = "answer BEANS-Zero with a model, and score answers by its own scorer and by that of BEANS-Next"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `nlm evaluate`."""
    parser.add_argument(
        "--benchmark",
        choices=("beans-zero", "corpus"),
        default="beans-zero",
        help="corpus: the held-out part of prepared data, --data and --split",
    )
    parser.add_argument(
        "--out",
        type=remote.output_path,
        help="folder for predictions.jsonl, metrics.json and report.html (always needed)",
    )
    parser.add_argument("--data", help="BEANS-Zero (folder of Parquet or save_to_disk, or hub id), or prepared data")
    parser.add_argument(
        "--synthetic", type=remote.output_path, help="write a small dataset of the benchmark's shape here, as --data"
    )
    made = parser.add_argument_group("answers made elsewhere")
    made.add_argument(
        "--predictions",
        type=remote.input_path,
        help="JSON lines or CSV (prediction, label, id, dataset_name), or a folder of them; --data adds sounds",
    )
    model = parser.add_argument_group("answers of a model")
    add_model_arguments(model, required=False)
    model.add_argument("--split", default="valid", help="of a corpus: the one that is asked about (default valid)")
    model.add_argument("--parts", nargs="+", default=(), help="these parts only")
    model.add_argument("--limit", type=int, default=0, help="at most so many questions of each part (default: all)")
    model.add_argument("--shard", default="0/1", help="this process's share, such as 1/4, of one --out")
    model.add_argument(
        "--score",
        choices=("answers", "labels"),
        default="answers",
        help="what the model writes, or the label of the part that it finds likeliest (default answers)",
    )
    model.add_argument(
        "--normalize",
        choices=("mean", "sum"),
        default="mean",
        help="of --score labels: log-likelihood a token, as the paper's loss is (default), or of the whole label",
    )
    model.add_argument("--batch-size", type=int, default=16, help="questions answered together (default 16)")
    model.add_argument("--max-new-tokens", type=int, default=300, help="longest answer, in tokens (default 300)")
    model.add_argument("--num-beams", type=int, default=1, help="beams of the search (default 1: greedy)")
    model.add_argument(
        "--merging-alpha",
        type=float,
        nargs="+",
        default=(1.0,),
        help="0 = base LLM ... 1 = trained (default 1); several are tried in turn with one load",
    )
    add_dtype_argument(model)
    parser.add_argument(
        "--vocabulary", type=remote.input_path, help="JSON of part -> labels, for BEANS-Next and --score labels; "
        "default: the benchmark's own",
    )  # fmt: skip
    parser.add_argument("--no-spice", action="store_true", help="captions by CIDEr-D alone, although Java is there")


def run(args: argparse.Namespace) -> int:
    """Answers what is not answered yet, scores, writes `metrics.json` and `report.html`, and prints a table.

    Raises:
      UserError: flags that do not go together, a file that is not in the official format, no such dataset or model.
    """
    from rich.console import Console

    from nlm_jax.evaluate import prediction_files
    from nlm_jax.evaluate.beans_zero import predict, results, synthetic

    console = Console(markup=False, highlight=False)
    if args.benchmark == "corpus":
        from nlm_jax.evaluate.corpus import command

        return command.run(args, console)
    if args.synthetic:
        if args.data:
            raise UserError("--synthetic writes the data: leave --data out")
        args.data = str(synthetic.write(args.synthetic))
        console.print(f"{args.data}: {synthetic.EACH} questions of each part")
        if not args.model and not args.predictions:
            return 0
    if bool(args.predictions) == bool(args.model):
        raise UserError("give --predictions with answers to score, or --model and --data to make them")
    if not args.out:
        raise UserError("give --out: a folder for the metrics and the report")
    if args.out.exists() and not args.out.is_dir():
        raise UserError(f"--out {args.out}: is a file; give a folder")
    vocabulary = prediction_files.vocabulary(args.vocabulary)
    if args.predictions:
        rows = predict.gathered(args.predictions, console)
        args.out.mkdir(parents=True, exist_ok=True)
        results.tell(args, rows, args.out, vocabulary, console)
        return 0
    found: dict[float, dict[str, Any]] = {}
    for alpha, folder in predict.made(args, vocabulary, console):
        rows = predict.gathered(folder, console)
        found[alpha] = results.tell(args, rows, folder, vocabulary, console, alpha)
    if len(found) > 1:
        results.compare(found, args.out, console)
    return 0
