"""Checkpoints of a stage: trained weights, optimizer and position in the data, saved together or not at all."""

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
"""Suffix that Orbax appends to the step of an unfinished save."""


@dataclasses.dataclass(frozen=True)
class Meta:
    """Progress of a run at a checkpoint, stored in it."""

    stage: str
    step: int
    """Steps done in the stage."""
    position: int
    """Batches taken from the stage's stream; the next one has this index."""
    best: float | None
    """Lowest validation loss so far in the stage."""
    config: dict[str, Any]
    digests: dict[str, dict[str, str]]
    """Digests of the base weights, which the checkpoint does not hold; see convert/run_file.py."""
    checksums: bool = False
    """Whether the checkpoint was saved with checksums of its files."""


def manager(workdir: epath.Path, stage: str, kind: str, keep: int = 1) -> ocp.CheckpointManager:
    """Orbax's manager of the checkpoints of one stage, which saves asynchronously.

    Args:
      workdir: directory of the run.
      stage: name of the stage.
      kind: "last" (with optimizer) or "best" (weights only).
      keep: number of newest checkpoints kept.
    """
    # Orbax logs every file that is missing, and the trace of every error that it also raises here later.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    # By default each replica saves a slice of each array, cut out by a program compiled per shape: no gain here.
    whole = ocp.type_handlers.ArrayHandler(use_replica_parallel=False)
    ocp.type_handlers.register_type_handler(jax.Array, whole, override=True)
    directory = workdir / CHECKPOINTS / stage / kind
    # Orbax calls it in the first process, after all files of a save are written and before it counts as saved.
    checksums = ocp.AsyncOptions(post_finalization_callback=lambda: write_checksums(unfinished(directory)))
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, async_options=checksums)
    return ocp.CheckpointManager(directory, options=options)


def unfinished(directory: epath.Path) -> epath.Path:
    """The checkpoint that is being saved: it has a temporary name or, in buckets, no commit file yet."""
    paths = list(directory.iterdir())
    partial = [path for path in paths if is_partial(path.name)]
    uncommitted = (path for path in paths if path.name.isdigit() and not (path / COMMIT_FILE).exists())
    return partial[0] if partial else next(uncommitted)


def is_partial(name: str) -> bool:
    """Whether a directory has the name of an unfinished save."""
    step, _, rest = name.partition(PARTIAL)
    return step.isdigit() and PARTIAL in name and (not rest or rest[1:].isdigit())


def optimizer_leaves(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of a state (by path) that are no parameters: step count, optimizer counters and moments."""
    return {p: leaf for p, leaf in leaves.items() if not p.startswith(("trainable/", "frozen/"))}


def save(
    to: ocp.CheckpointManager,
    params: Mapping[str, jax.Array],
    meta: Meta,
    opt: Mapping[str, jax.Array] | None = None,
) -> None:
    """Starts saving as `meta.step`; does nothing if that step is saved already.

    Args:
      to: manager of the checkpoints.
      params: path -> leaf of everything that has been trained.
      meta: progress of the run.
      opt: from `optimizer_leaves`; None saves weights only.
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
    """The meta data of the checkpoint of `step`."""
    return build(
        Meta, of.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta, f"step {step}: meta"
    )


def restore(of: ocp.CheckpointManager, step: int, item: str, targets: Mapping[str, jax.ShapeDtypeStruct]):
    """Reads one item of a checkpoint, whatever mesh it was saved on.

    Args:
      of: manager of the checkpoints.
      step: of the checkpoint.
      item: "params" or "opt".
      targets: path -> shape, dtype and sharding of each leaf.

    Returns:
      path -> array on the sharding of its target.
    """
    args = ocp.args.Composite(**{item: ocp.args.StandardRestore(nest(targets))})
    return named_leaves(of.restore(step, args=args)[item])
