"""`nlm demo`: the whole workflow on a synthetic corpus, or on a folder of real recordings, with a report."""

import argparse
import os
import pathlib
import sys

import rich.console
import rich.table

from nlm_jax.core import remote
from nlm_jax.core.config import load
from nlm_jax.core.errors import UserError

SUMMARY = "the whole path on a synthetic corpus (or --corpus), with a report"
DEVICES = 8
"""Number of fake CPU devices."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `nlm demo`; `--config.a.b=value` overrides are in `args.overrides`."""
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("demo_out"), help="directory (default demo_out)"
    )
    parser.add_argument(
        "--config", help="settings of both stages (default configs/demo.py, real_small.py with --corpus)"
    )
    parser.add_argument("--corpus", type=remote.input_path, help="folder with a manifest.jsonl of real recordings")
    parser.add_argument("--seed", type=int, default=0, help="seed of the synthetic corpus")
    parser.epilog = "Rerun the same command to resume after an interruption; finished steps are not repeated."


def run(args: argparse.Namespace) -> int:
    """Runs the remaining steps and writes `report.html`.

    Raises:
      UserError: no config, no manifest, or an --out with other content.
    """
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: must not be negative")
    fake_devices()
    if args.corpus is not None and not (args.corpus / "manifest.jsonl").is_file():
        raise UserError(f"--corpus={args.corpus}: has no manifest.jsonl; give a folder with one")
    name = args.config or str(shipped_config("demo.py" if args.corpus is None else "real_small.py"))
    if ":" not in name:
        name = f"{name}:{args.out / 'prepared'}"
    from nlm_jax.demo import presets, report
    from nlm_jax.demo.run import run as run_steps
    from nlm_jax.demo.run import summary
    from nlm_jax.train.config import train_config

    console = rich.console.Console()
    config = train_config(load(name, args.overrides))
    demo = presets.synthetic(args.out, args.seed) if args.corpus is None else presets.real(args.out, args.corpus)
    result = run_steps(demo, config, console)
    page = report.write(args.out / "report.html", result, demo, config)
    show(result, summary(result), console)
    console.print(f"report: {page}", highlight=False)
    return 0


def fake_devices() -> None:
    """Requests 8 fake devices on the CPU platform; must run before jax initializes its devices."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags and "jax" not in sys.modules:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={DEVICES}".strip()


def shipped_config(name: str) -> pathlib.Path:
    """Path of a config of the repository, from its root or from an editable installation."""
    for root in (pathlib.Path.cwd(), pathlib.Path(__file__).resolve().parents[2]):
        if (root / "configs" / name).is_file():
            return root / "configs" / name
    raise UserError(f"--config: configs/{name} does not exist here; run from the repository or name a config file")


def show(result, rows, console: rich.console.Console) -> None:
    """Prints the table of scores by task, and the scores after stage 1."""
    table = rich.table.Table(title="held-out answers, exact match")
    for head in ("task", "questions", "model", "95% interval", "majority", "logistic regression"):
        table.add_column(head, justify="left" if head == "task" else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    from nlm_jax.evaluate.accuracy import score_by_task

    for task, s in score_by_task(result["stage1"]).items():
        console.print(
            f"after stage 1, {task}: {s.accuracy:.1%} of {s.count} ({s.low:.1%} to {s.high:.1%})", highlight=False
        )
