"""Saving and restoring: what trains, the optimiser and the place in the data go together or not at all."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from nlm_jax.convert.checksums import COMMIT_FILE, write_checksums
from nlm_jax.convert.run_file import CHECKPOINTS
from nlm_jax.core.config import build
from nlm_jax.core.tree import named_leaves, nest

PARTIAL = ".orbax-checkpoint-tmp"
"""What Orbax puts behind the step of a save that is under way."""


@dataclasses.dataclass(frozen=True)
class Meta:
    """What a checkpoint says of itself."""

    stage: str
    step: int
    """Steps done within the stage."""
    position: int
    """Batches taken from the stage's stream: the place where it goes on."""
    best: float | None
    """Lowest validation loss so far in the stage."""
    config: dict[str, Any]
    digests: dict[str, dict[str, str]]
    """Of the base that is not saved, see convert/run_file.py."""
    checksums: bool = False
    """Whether the checkpoint was saved with checksums of its files."""


def manager(workdir: epath.Path, stage: str, kind: str, keep: int = 1) -> ocp.CheckpointManager:
    """Checkpoints of one stage. `kind` is "last" (with optimiser) or "best" (weights only). Writes behind."""
    # orbax tells every file it does not find, and prints the trace of every error that it raises here later.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    # By default each replica saves a slice of its own, cut out by a program compiled per shape: no gain here.
    whole = ocp.type_handlers.ArrayHandler(use_replica_parallel=False)
    ocp.type_handlers.register_type_handler(jax.Array, whole, override=True)
    directory = workdir / CHECKPOINTS / stage / kind
    # Orbax calls it in the first process, once all files of a save are there and before it is visible as saved.
    behind = ocp.AsyncOptions(post_finalization_callback=lambda: write_checksums(unfinished(directory)))
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, async_options=behind)
    return ocp.CheckpointManager(directory, options=options)


def unfinished(directory: epath.Path) -> epath.Path:
    """The checkpoint that is being saved: under a name of its own, or in buckets without the file that ends it."""
    found = list(directory.iterdir())
    begun = [path for path in found if is_partial(path.name)]
    open_ended = (path for path in found if path.name.isdigit() and not (path / COMMIT_FILE).exists())
    return begun[0] if begun else next(open_ended)


def is_partial(name: str) -> bool:
    """Whether a directory has the name of a save that is under way, or was when its process ended."""
    step, _, rest = name.partition(PARTIAL)
    return step.isdigit() and PARTIAL in name and (not rest or rest[1:].isdigit())


def optimiser(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a state's leaves (by path) that is counters and moments."""
    return {p: leaf for p, leaf in leaves.items() if not p.startswith(("trainable/", "frozen/"))}


def save(
    to: ocp.CheckpointManager,
    params: Mapping[str, jax.Array],
    meta: Meta,
    opt: Mapping[str, jax.Array] | None = None,
) -> None:
    """Starts saving under `meta.step`; nothing happens where that step is there already.

    Args:
      params: path -> leaf of everything that training has changed.
      opt: what `optimiser` gives; None saves weights only.
    """
    if meta.step in to.all_steps():
        return
    items = {
        "params": ocp.args.StandardSave(nest(params)),
        "meta": ocp.args.JsonSave({**dataclasses.asdict(meta), "checksums": True}),
    }
    if opt is not None:
        items["opt"] = ocp.args.StandardSave(nest(opt))
    to.save(meta.step, args=ocp.args.Composite(**items))


def read_meta(of: ocp.CheckpointManager, step: int) -> Meta:
    """What the checkpoint of `step` says of itself."""
    return build(
        Meta, of.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta, f"step {step}: meta"
    )


def restore(of: ocp.CheckpointManager, step: int, item: str, targets: Mapping[str, jax.ShapeDtypeStruct]):
    """Path -> array of `item` ("params" or "opt"), onto the shardings of `targets`, whatever mesh it was saved on."""
    args = ocp.args.Composite(**{item: ocp.args.StandardRestore(nest(targets))})
    return named_leaves(of.restore(step, args=args)[item])
