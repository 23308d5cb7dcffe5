"""`nlm plan --search`: the fastest mesh, placement, remat policy and rows per chip among those that fit.

A compilation of the 8B step takes minutes, so the search avoids as many as possible:

- If the weights alone exceed the memory, nothing is compiled.
- For each placement, rows are doubled or halved from four until one fits and the next does not: more rows share the
  same gathered weights, so the largest number that fits is the fastest. A doubling is skipped if the memory of the
  smaller one implies that it will not fit.
- Remat policies are tried from the one that saves most activations. The next one recomputes more to free memory for
  more rows, which helps only if the step is limited by the links and not by the chip.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

from nlm_jax.plan import compile as compiler
from nlm_jax.plan.estimate import USABLE, make_report

REMATS = ("mlp", "attention", "full")
START_ROWS, MAX_ROWS = 4, 64
GROWING = 0.75
"""Share of a step's temporaries assumed to grow with the rows; the rest may be constant."""
LINK_BOUND = 0.5
"""Minimum share of link time in a step for which a policy that frees memory for more rows is tried."""
POD = 16
"""Number of chips among which gathering is cheap: on larger slices fsdp over at most this many, replicated over data,
is tried too. Groups are whole sides of the slice: with split sides the compiler takes several times as long."""


def search(config, index: int, slice_, devices, announce: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Tries placements, remat policies and rows.

    Args:
      index: of the stage.
      announce: called with a description of each candidate before it is compiled.

    Yields:
      the report of each candidate.
    """
    for rules, sizes in placements(slice_.shape):
        for remat in REMATS:
            changed = dataclasses.replace(
                config,
                model=dataclasses.replace(config.model, remat=remat),
                mesh=dataclasses.replace(config.mesh, rules=rules),
            )

            def compile_rows(rows: int, changed=changed, sizes=sizes) -> dict[str, Any]:
                mesh = "x".join(map(str, sizes))
                announce(f"{mesh} {changed.mesh.rules}, {rows} rows per chip, remat {changed.model.remat}")
                return evaluate(with_rows(changed, index, sizes, slice_.chips, rows), index, slice_, devices, sizes)

            reports = []
            for report in search_rows(compile_rows):
                reports.append(report)
                yield report
            if reports[0].get("hopeless") or compute_bound(best(reports)):
                break


def placements(shape: tuple[int, ...]) -> list[tuple[str, tuple[int, int, int]]]:
    """Candidate rules and mesh sizes for a slice with these sides."""
    chips = math.prod(shape)
    candidates = [("default", (1, chips, 1))]
    groups = {math.prod(sides) for n in range(1, len(shape)) for sides in itertools.combinations(shape, n)}
    if chips > POD and (near := max((size for size in groups if size <= POD), default=1)) > 1:
        candidates.append(("default", (chips // near, near, 1)))
    return [*candidates, ("replicated-base", (1, chips, 1))]


def search_rows(compile_rows: Callable[[int], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Reports for rows from `START_ROWS`, doubled while they fit, or halved until they do."""
    report = compile_rows(START_ROWS)
    yield report
    rows, factor = START_ROWS, 2 if report["fits"] else 0.5
    while 1 <= rows * factor <= MAX_ROWS and not report.get("hopeless"):
        if factor > 1 and doubling_exceeds_memory(report):
            return
        rows = int(rows * factor)
        report = compile_rows(rows)
        yield report
        if report["fits"] != (factor > 1):
            return


def doubling_exceeds_memory(report: dict[str, Any]) -> bool:
    """Whether twice the rows of a report will not fit."""
    if "peak_bytes_per_chip" not in report:
        return False
    growth = GROWING * (report["peak_bytes_per_chip"] - report["argument_bytes_per_chip"])
    return report["peak_bytes_per_chip"] + growth > USABLE * report["hbm_bytes_per_chip"]


def compute_bound(report: dict[str, Any]) -> bool:
    """Whether a step fits and its links are not the bottleneck."""
    if not report["fits"]:
        return False
    return report["roofline_seconds"]["interconnect"] < LINK_BOUND * report["predicted_step_seconds"]


def best(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """The report of the fastest step that fits; the last report if none does."""
    fitting = [report for report in reports if report["fits"]]
    return max(fitting, key=lambda report: report["predicted_clips_per_second"]) if fitting else reports[-1]


def with_rows(config, index: int, sizes: tuple[int, int, int], devices: int, rows_per_chip: int):
    """The config with `rows_per_chip` rows for each chip that shares the batch.

    If `rows_per_chip` is 0, the config's rows are kept, rounded up to a multiple that the mesh divides.
    """
    tensor = max(1, sizes[2])
    stage = config.stages[index]
    parts = devices // tensor * stage.accumulate
    rows = (rows_per_chip or -(-stage.data.rows // parts)) * parts
    stages = list(config.stages)
    stages[index] = dataclasses.replace(stage, data=dataclasses.replace(stage.data, rows=rows))
    return dataclasses.replace(config, stages=tuple(stages))


def evaluate(config, index: int, slice_, devices, sizes: tuple[int, int, int]) -> dict[str, Any]:
    """Compiles one candidate and returns its report, which has no times if it runs out of memory."""
    program = compiler.program(config, index, devices, sizes)
    weights = state_bytes(program)
    if weights > USABLE * slice_.chip.hbm:  # before anything is compiled
        return rejection(program, slice_, config, f"its weights and moments alone are {weights / 2**30:.1f} GiB") | {
            "hopeless": True
        }
    try:
        return make_report(compiler.compile_step(program), slice_) | {"rules": config.mesh.rules}
    except compiler.OutOfMemory as error:
        return rejection(program, slice_, config, str(error))


def rejection(program, slice_, config, reason: str) -> dict[str, Any]:
    """The report, without times, of a step that does not fit."""
    parts = program.mesh.shape["data"] * program.mesh.shape["fsdp"]
    return {
        "topology": slice_.text,
        "mesh": "x".join(map(str, program.mesh.shape.values())),
        "rules": config.mesh.rules,
        "remat": program.model.remat,
        "rows": program.stage.data.rows,
        "rows_per_chip": program.stage.data.rows / parts,
        "hbm_bytes_per_chip": slice_.chip.hbm,
        "fits": False,
        "reason": reason,
    }


def state_bytes(program) -> int:
    """Bytes of the train state on one device."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in program.targets().values())


def line(report: dict[str, Any]) -> str:
    """A report as one line of text."""
    head = f"{report['mesh']} {report['rules']}, {report['rows_per_chip']:g} rows per chip, remat {report['remat']}: "
    if "peak_bytes_per_chip" not in report:
        return head + f"does not fit: {report['reason']}"
    return head + (
        f"{report['peak_bytes_per_chip'] / 2**30:.1f} GiB, {report['predicted_clips_per_second']:.0f} clips/s, "
        f"MFU {report['predicted_mfu']:.0%}" + ("" if report["fits"] else ", does not fit")
    )
