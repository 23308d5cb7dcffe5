"""`nlm plan`: compiles the training step for an accelerator without having one, and reports whether it fits."""

import argparse
import json
from typing import Any

from nlm_jax.core import remote
from nlm_jax.core.config import load
from nlm_jax.core.errors import UserError

SUMMARY = "will a training step fit an accelerator, and how fast, before renting it"
DOES_NOT_FIT = 3
ROWS_HELP = "rows per chip (default: the config's rows, or the next multiple that the mesh divides)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `nlm plan`; `--config.a.b=value` overrides are in `args.overrides`."""
    parser.add_argument("--config", required=True, help="a .py file with get_config(), such as configs/stage2.py")
    parser.add_argument("--topology", required=True, help="KIND:SHAPE: v5e:4x4, v5p:4x4x8, v6e:8x8, h100:8 ...")
    parser.add_argument("--mesh", default="", help="data x fsdp x tensor, as 1x16x1; default: the config's")
    parser.add_argument("--stage", default="", help="name of the stage (default: the last)")
    parser.add_argument("--rows-per-chip", type=int, default=0, help=ROWS_HELP)
    parser.add_argument("--search", action="store_true", help="try meshes, rows and remat policies; show the best")
    parser.add_argument("--json", type=remote.output_path, help="write the figures to this file")
    parser.epilog = "exit status 3 if the step does not fit. --config.a.b=value overrides any field of the config"


def run(args: argparse.Namespace) -> int:
    """Prints the plan and returns the exit status: 0 if the step fits, 3 if not."""
    from rich.console import Console

    from nlm_jax.plan import topology
    from nlm_jax.plan.search import best, evaluate, line, search, with_rows
    from nlm_jax.train.config import TrainConfig, train_config

    console, slice_ = Console(), topology.parse(args.topology)
    if args.json and args.json.is_dir():
        raise UserError(f"--json {args.json}: is a folder; give a file such as {args.json / 'plan.json'}")
    if args.rows_per_chip < 0:
        raise UserError(f"--rows-per-chip {args.rows_per_chip}: must be at least 1")
    config = train_config(load(args.config, args.overrides, TrainConfig))
    index = stage_index(config, args.stage)
    sizes = mesh_sizes(args.mesh, config)
    devices = topology.devices(slice_)
    if args.search:
        reports = []
        with console.status("") as status:
            for report in search(config, index, slice_, devices, lambda what: status.update(f"compiling {what}")):
                console.print(line(report), highlight=False)
                reports.append(report)
        result = best(reports) | {"tried": reports}
    else:
        config_rows = config.stages[index].data.rows
        config = with_rows(config, index, sizes, len(devices), args.rows_per_chip)
        rows = config.stages[index].data.rows
        if not args.rows_per_chip and rows != config_rows:
            console.print(
                f"the {config_rows} rows of the config do not divide over this mesh: planned with {rows}; "
                "set another number with --rows-per-chip",
                highlight=False,
            )
        with console.status("compiling; a large model takes minutes"):
            result = evaluate(config, index, slice_, devices, sizes)
    show(console, result)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return 0 if result["fits"] else DOES_NOT_FIT


def stage_index(config, name: str) -> int:
    """Index of the stage called `name`; the last one if `name` is empty."""
    names = [stage.name for stage in config.stages]
    if name and name not in names:
        raise UserError(f"--stage {name}: the config has {', '.join(names)}")
    return names.index(name) if name else len(names) - 1


def mesh_sizes(text: str, config) -> tuple[int, int, int]:
    """Parses `1x16x1` as (1, 16, 1); the config's own sizes if `text` is empty."""
    if not text:
        return config.mesh.data, config.mesh.fsdp, config.mesh.tensor
    parts = text.split("x")
    if len(parts) != 3 or not all(p.lstrip("-").isdigit() for p in parts):
        raise UserError(f"--mesh {text}: write the sizes of data, fsdp and tensor as 1x16x1")
    return tuple(map(int, parts))


def show(console, report: dict[str, Any]) -> None:
    """Prints a report as a table."""
    from rich.table import Table

    gib = lambda n: f"{n / 2**30:.2f} GiB"  # noqa: E731
    table = Table("", "", title=f"{report['topology']}, mesh {report['mesh']} (data, fsdp, tensor)", show_header=False)
    table.add_row("rows per chip", f"{report['rows_per_chip']:g} ({report['rows']} in total), remat {report['remat']}")
    if "peak_bytes_per_chip" not in report:
        table.add_row("memory per chip", f"more than {gib(report['hbm_bytes_per_chip'])}: {report['reason']}")
        console.print(table)
        return
    table.add_row("arguments, temporaries", f"{gib(report['argument_bytes_per_chip'])}, "
                  f"{gib(report['temporary_bytes_per_chip'])}")  # fmt: skip
    verdict = "fits" if report["fits"] else "does not fit"
    table.add_row(
        "peak per chip", f"{gib(report['peak_bytes_per_chip'])} of {gib(report['hbm_bytes_per_chip'])}: {verdict}"
    )
    table.add_row("model FLOPs per step", f"{report['flops_per_step']:.3g}")
    for kind, collective in report["collectives"].items():
        table.add_row(kind, f"{collective['count']} per step, {collective['bytes'] / 1e9:.2f} GB sent per chip")
    for resource, seconds in report["roofline_seconds"].items():
        table.add_row(f"time by {resource}", f"{seconds * 1e3:.1f} ms" if seconds else "n/a")
    for kernel, seconds in report["kernel_seconds"].items():
        table.add_row(f"  of it {kernel}", f"{seconds * 1e3:.1f} ms, by formula (the rest is the compiler's)")
    table.add_row("predicted step", f"{report['predicted_step_seconds'] * 1e3:.1f} ms")
    table.add_row(
        "predicted speed", f"{report['predicted_clips_per_second']:.1f} clips/s, MFU {report['predicted_mfu']:.1%}"
    )
    table.add_row("compiled in", f"{report['compile_seconds']:.0f} s; {report['source']}")
    console.print(table)
