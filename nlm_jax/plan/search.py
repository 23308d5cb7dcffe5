"""`nlm plan --search`: which mesh, placement, remat policy and rows a chip are fastest among those that fit.

A compilation of the 8B step takes minutes, so as few as possible are made:

- Where the weights alone are too much nothing is compiled.
- Of each way, rows are doubled or halved from four until one fits and the next does not: more rows share the same
  gathered weights, so the most that fit are the fastest. A doubling is left out where what the smaller one needed says
  that it will not fit.
- Remat policies are tried from the one that saves most. The next one computes more again to make room for more rows,
  which is worth a look only where the links, and not the chip, are what a step waits for.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

from nlm_jax.plan import compile as compiler
from nlm_jax.plan.estimate import USABLE, report

REMATS = ("mlp", "attention", "full")
START_ROWS, MOST_ROWS = 4, 64
GROWING = 0.75
"""Share of a step's temporaries that certainly grows with the rows; the rest may be of one size."""
WAITING = 0.5
"""Share of a step that its links must take before a policy that makes room for more rows is tried."""
POD = 16
"""Chips among which gathering is cheap: on larger slices fsdp over up to so many is tried too, with copies of it as
data. They make up whole sides of the slice: groups that share a side take the compiler several times as long."""


def search(config, index: int, slice_, devices, announce: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Reports of everything that was tried, in order; `announce` hears of each before it is compiled."""
    for rules, sizes in ways(slice_.shape):
        for remat in REMATS:
            changed = dataclasses.replace(
                config,
                model=dataclasses.replace(config.model, remat=remat),
                mesh=dataclasses.replace(config.mesh, rules=rules),
            )

            def at(rows: int, changed=changed, sizes=sizes) -> dict[str, Any]:
                mesh = "x".join(map(str, sizes))
                announce(f"{mesh} {changed.mesh.rules}, {rows} rows a chip, remat {changed.model.remat}")
                return attempt(with_rows(changed, index, sizes, slice_.chips, rows), index, slice_, devices, sizes)

            tried = []
            for found in climb(at):
                tried.append(found)
                yield found
            if tried[0].get("hopeless") or busy(best(tried)):
                break


def ways(shape: tuple[int, ...]) -> list[tuple[str, tuple[int, int, int]]]:
    """Placements and meshes worth trying on a slice with these sides."""
    chips = math.prod(shape)
    found = [("default", (1, chips, 1))]
    groups = {math.prod(sides) for n in range(1, len(shape)) for sides in itertools.combinations(shape, n)}
    if chips > POD and (near := max((size for size in groups if size <= POD), default=1)) > 1:
        found.append(("default", (chips // near, near, 1)))
    return [*found, ("replicated-base", (1, chips, 1))]


def climb(at: Callable[[int], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Tries rows from `START_ROWS`, upwards while they fit, or downwards until they do."""
    found = at(START_ROWS)
    yield found
    rows, factor = START_ROWS, 2 if found["fits"] else 0.5
    while 1 <= rows * factor <= MOST_ROWS and not found.get("hopeless"):
        if factor > 1 and too_much(found):
            return
        rows = int(rows * factor)
        found = at(rows)
        yield found
        if found["fits"] != (factor > 1):
            return


def too_much(found: dict[str, Any]) -> bool:
    """Whether twice the rows of what was found will not fit."""
    if "peak_bytes_per_chip" not in found:
        return False
    more = GROWING * (found["peak_bytes_per_chip"] - found["argument_bytes_per_chip"])
    return found["peak_bytes_per_chip"] + more > USABLE * found["hbm_bytes_per_chip"]


def busy(found: dict[str, Any]) -> bool:
    """Whether what was found fits and its chips do not wait for their links."""
    return found["fits"] and found["roofline_seconds"]["interconnect"] < WAITING * found["predicted_step_seconds"]


def best(tried: list[dict[str, Any]]) -> dict[str, Any]:
    """The fastest that fits, or the last that does not."""
    fitting = [found for found in tried if found["fits"]]
    return max(fitting, key=lambda found: found["predicted_clips_per_second"]) if fitting else tried[-1]


def with_rows(config, index: int, sizes: tuple[int, int, int], devices: int, rows_per_chip: int):
    """The config with as many rows as the chips that share the batch hold together.

    Without `rows_per_chip` they are the config's own, or the next multiple of what the mesh divides.
    """
    tensor = max(1, sizes[2])
    stage = config.stages[index]
    parts = devices // tensor * stage.accumulate
    rows = (rows_per_chip or -(-stage.data.rows // parts)) * parts
    stages = list(config.stages)
    stages[index] = dataclasses.replace(stage, data=dataclasses.replace(stage.data, rows=rows))
    return dataclasses.replace(config, stages=tuple(stages))


def attempt(config, index: int, slice_, devices, sizes: tuple[int, int, int]) -> dict[str, Any]:
    """The report of one compilation; one that runs out of memory has no times."""
    made = compiler.program(config, index, devices, sizes)
    weights = held(made)
    if weights > USABLE * slice_.chip.hbm:  # before anything is compiled
        return refused(made, slice_, config, f"its weights and moments alone are {weights / 2**30:.1f} GiB") | {
            "hopeless": True
        }
    try:
        return report(compiler.compile_step(made), slice_) | {"rules": config.mesh.rules}
    except compiler.OutOfMemory as needed:
        return refused(made, slice_, config, str(needed))


def refused(made, slice_, config, reason: str) -> dict[str, Any]:
    """The report of a step that has no times because it does not fit."""
    parts = made.mesh.shape["data"] * made.mesh.shape["fsdp"]
    return {
        "topology": slice_.text,
        "mesh": "x".join(map(str, made.mesh.shape.values())),
        "rules": config.mesh.rules,
        "remat": made.model.remat,
        "rows": made.stage.data.rows,
        "rows_per_chip": made.stage.data.rows / parts,
        "hbm_bytes_per_chip": slice_.chip.hbm,
        "fits": False,
        "reason": reason,
    }


def held(made) -> int:
    """Bytes of the state on one device."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in made.targets().values())


def line(found: dict[str, Any]) -> str:
    """One candidate of a search."""
    head = f"{found['mesh']} {found['rules']}, {found['rows_per_chip']:g} rows a chip, remat {found['remat']}: "
    if "peak_bytes_per_chip" not in found:
        return head + f"does not fit: {found['reason']}"
    return head + (
        f"{found['peak_bytes_per_chip'] / 2**30:.1f} GiB, {found['predicted_clips_per_second']:.0f} clips/s, "
        f"MFU {found['predicted_mfu']:.0%}" + ("" if found["fits"] else ", does not fit")
    )
