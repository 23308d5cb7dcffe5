"""The parameter table at the start of a stage: what there is, where it lies, what trains."""

import math

import jax
import jax.numpy as jnp
import rich.table
from flax import nnx

from nlm_jax.core.logging import human
from nlm_jax.core.tree import name
from nlm_jax.train.optim import decays
from nlm_jax.train.partition import component
from nlm_jax.train.program import Program


def rows(program: Program) -> list[dict[str, str]]:
    """One row per parameter: path, shape, dtype, logical axes, spec, bytes on each device, what trains and decays."""
    targets, axes = program.params(), logical_axes(program)
    chosen, table_rows = program.stage.train.named(), []
    for path, leaf in sorted(targets.items()):
        trains = component(path) in chosen
        shard = leaf.sharding.shard_shape(leaf.shape)
        table_rows.append(
            {
                "path": path,
                "shape": "x".join(map(str, leaf.shape)),
                "dtype": jnp.dtype(leaf.dtype).name,
                "axes": " ".join(str(a or "-") for a in axes.get(path, ())),
                "spec": str(tuple(leaf.sharding.spec)),
                "bytes/device": str(math.prod(shard) * jnp.dtype(leaf.dtype).itemsize),
                "trains": ("decayed" if decays(path, leaf) else "yes") if trains else "",
            }
        )
    return table_rows


def logical_axes(program: Program) -> dict[str, tuple[str | None, ...]]:
    """Path -> names of the axes of every parameter."""
    is_variable = lambda x: isinstance(x, nnx.Variable)  # noqa: E731
    axes = {}
    for part in (program.abstract.trainable, program.abstract.frozen):
        for path, variable in jax.tree.leaves_with_path(part, is_leaf=is_variable):
            axes[name(path)] = variable.get_metadata().get("out_sharding") or ()
    return axes


def table(program: Program) -> rich.table.Table:
    """`rows` for the terminal, with the sums below."""
    listed, targets = rows(program), program.params()
    chosen = program.stage.train.named()
    count = {True: 0, False: 0}
    for path, leaf in targets.items():
        count[component(path) in chosen] += math.prod(leaf.shape)
    view = rich.table.Table(title=f"Parameters of {program.stage.name}", title_justify="left", box=None, padding=(0, 1))
    for column in listed[0]:
        view.add_column(column, justify="right" if column == "bytes/device" else "left", no_wrap=True)
    for row in listed:
        view.add_row(*(human(float(v)) if k == "bytes/device" else v for k, v in row.items()))
    each = sum(int(row["bytes/device"]) for row in listed)
    view.caption = f"{human(count[True])} train, {human(count[False])} frozen; {human(each)}B of weights on each device"
    view.caption_justify = "left"
    return view


def text(program: Program) -> str:
    """`rows` as a plain table for a file: one line per parameter, columns aligned."""
    listed = rows(program)
    widths = {c: max(len(c), *(len(row[c]) for row in listed)) for c in listed[0]}
    lines = ["  ".join(c.ljust(w) for c, w in widths.items())]
    lines += ["  ".join(row[c].ljust(w) for c, w in widths.items()) for row in listed]
    return "\n".join(line.rstrip() for line in lines) + "\n"
