"""`nlm evaluate`: a model's answers to BEANS-Zero or to held-out questions of a corpus, and their scores."""

import argparse

from nlm_jax.core import remote
from nlm_jax.generate.model_args import add_dtype_argument, add_model_arguments

SUMMARY = (
    "answer BEANS-Zero or a held-out split with a model, and score predictions (BEANS-Zero's and BEANS-Next's scorer)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `nlm evaluate`."""
    parser.add_argument(
        "--benchmark",
        choices=("beans-zero", "corpus"),
        default="beans-zero",
        help="corpus: the held-out split of prepared data, see --data and --split",
    )
    parser.add_argument(
        "--out",
        type=remote.output_path,
        help="folder for predictions.jsonl, metrics.json and report.html (always needed)",
    )
    parser.add_argument("--data", help="BEANS-Zero (folder of Parquet or save_to_disk, or hub id), or prepared data")
    parser.add_argument(
        "--synthetic", type=remote.output_path, help="write a small synthetic BEANS-Zero here and use it as --data"
    )
    predictions = parser.add_argument_group("existing predictions")
    predictions.add_argument(
        "--predictions",
        type=remote.input_path,
        help="JSON lines or CSV (prediction, label, id, dataset_name), or a folder of them; --data adds audio",
    )
    model = parser.add_argument_group("predictions of a model")
    add_model_arguments(model, required=False)
    model.add_argument("--split", default="valid", help="split of a corpus to evaluate (default valid)")
    model.add_argument("--parts", nargs="+", default=(), help="only these parts of the benchmark")
    model.add_argument("--limit", type=int, default=0, help="maximum number of questions of each part (default: all)")
    model.add_argument("--shard", default="0/1", help="this process's share, such as 1/4; all may use one --out")
    model.add_argument(
        "--score",
        choices=("answers", "labels"),
        default="answers",
        help="answers: the response the model generates; labels: the most likely label of the part (default answers)",
    )
    model.add_argument(
        "--normalize",
        choices=("mean", "sum"),
        default="mean",
        help="of --score labels: mean log-likelihood of a token, as in the paper (default), or sum over the label",
    )
    model.add_argument("--batch-size", type=int, default=16, help="questions answered together (default 16)")
    model.add_argument("--max-new-tokens", type=int, default=300, help="maximum response length (default 300)")
    model.add_argument("--num-beams", type=int, default=1, help="beams of the search (default 1: greedy)")
    model.add_argument(
        "--merging-alpha",
        type=float,
        nargs="+",
        default=(1.0,),
        help="0 = base LLM ... 1 = trained (default 1); several are evaluated in turn, loading the model once",
    )
    add_dtype_argument(model)
    parser.add_argument(
        "--vocabulary", type=remote.input_path, help="JSON of part -> labels, for BEANS-Next and --score labels; "
        "default: the benchmark's own",
    )  # fmt: skip
    parser.add_argument(
        "--no-spice", action="store_true", help="score captions by CIDEr-D only, even if Java is installed"
    )


def run(args: argparse.Namespace) -> int:
    """Evaluates on the benchmark that the flags name; see its own `command` module.

    Raises:
      UserError: contradictory flags, unreadable predictions or data, no such model.
    """
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    if args.benchmark == "corpus":
        from nlm_jax.evaluate.corpus import command
    else:
        from nlm_jax.evaluate.beans_zero import command
    return command.run(args, console)
