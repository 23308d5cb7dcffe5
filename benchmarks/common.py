"""Shared by all benchmarks: the environment, alternating timing of several implementations, the results file."""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

PACKAGES = ("jax", "flax", "torch", "transformers", "peft", "grain")


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with the flags of all benchmarks."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each side; medians are compared")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures to this file")
    return parser


def cores() -> int:
    """Number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def alternate(sides: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each call: after a warm-up the sides alternate, so that other load affects all of them equally."""
    for run in sides.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def report(
    title: str, rows: Mapping[str, float], unit: str, peer: str, file: pathlib.Path | None, **facts: Any
) -> None:
    """Prints rates (`unit`, higher is better) with their ratio to `peer`, and writes them to `file`."""
    host = environment()
    print(f"{title}\n  {host['date']}, {host['device']}, {host['cores']} cores, {host['versions']}")
    for name, value in facts.items():
        print(f"  {name}: {value}")
    for name, rate in rows.items():
        print(f"  {name:32s} {rate:10.2f} {unit}   {rate / rows[peer]:.2f} x {peer}")
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        content = {"title": title, "unit": unit, "peer": peer, "rates": dict(rows), **facts, **host}
        file.write_text(json.dumps(content, indent=1, default=str), encoding="utf-8")


def environment() -> dict[str, Any]:
    """Date, device, cores and package versions of a measurement."""
    import jax

    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.date.today().isoformat(),
        "device": jax.devices()[0].device_kind if jax.default_backend() != "cpu" else processor(),
        "cores": cores(),
        "versions": ", ".join(versions),
    }


def processor() -> str:
    """Name of the CPU."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def median(values: list[float]) -> float:
    """Median of the values."""
    return statistics.median(values)
