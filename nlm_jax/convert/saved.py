"""Saved checkpoints of a run: which there are, whether they are whole, and their weights."""

import os
from collections.abc import Collection

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from etils import epath

from nlm_jax.convert.checksums import META, OPT, PARAMS, damage, has_checksums, is_complete
from nlm_jax.core.errors import UserError
from nlm_jax.core.remote import is_remote
from nlm_jax.core.tree import named_leaves

WHOLE = (META, PARAMS, OPT)
"""Items of a checkpoint with everything needed to resume."""


def saved_steps(directory: os.PathLike) -> list[int]:
    """Steps of which `directory` has anything, in order."""
    directory = epath.Path(directory)
    names = [path.name for path in directory.iterdir()] if directory.is_dir() else ()
    return sorted(int(name) for name in names if name.isdigit())


def finished(directory: os.PathLike) -> list[int]:
    """Steps completely saved under `directory`, in order. One that is being written has another name, or no end yet."""
    return [step for step in saved_steps(directory) if is_complete(epath.Path(directory) / str(step))]


def read_params(checkpoint: os.PathLike) -> dict[str, np.ndarray]:
    """Path -> array of the trained leaves of a checkpoint, read to the host whatever mesh wrote them."""
    path = (epath.Path(checkpoint) / PARAMS).absolute()
    reader = ocp.PyTreeCheckpointHandler()  # alone: a Checkpointer looks for a file that lies one folder up, and warns
    args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), reader.metadata(path).tree)
    return named_leaves(reader.restore(path, args=ocp.args.PyTreeRestore(restore_args=args)))


def check(checkpoint: os.PathLike, items: Collection[str]) -> None:
    """Raises UserError if `items` of a checkpoint, which are about to be read, are damaged."""
    if fault := problem(checkpoint, items):
        raise UserError(
            f"{checkpoint}: damaged checkpoint: {fault}; restore it from a copy, or call nlm train with its --workdir "
            "again, which sets it aside and resumes from the previous one"
        )


def problem(checkpoint: os.PathLike, items: Collection[str] = WHOLE) -> str | None:
    """The error of `items` of a checkpoint, or None. A checkpoint without checksums is read for that."""
    fault = damage(checkpoint, items)
    if fault is None and not has_checksums(checkpoint):
        fault = next((text for item in items if item != META and (text := unreadable(checkpoint, item))), None)
    return fault


def unreadable(checkpoint: os.PathLike, item: str) -> str | None:
    """Reads the arrays of an item one after the other; why one cannot be read, or None.

    Not through Orbax: of several arrays it reads at once it abandons the rest when one fails, and their errors
    show on the terminal later.
    """
    path, name = (epath.Path(checkpoint) / item).absolute(), ""
    base = str(path) if is_remote(path) else path.as_uri()
    try:
        names = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"{base}/"}).result().list().result()
        for name in sorted(name.decode() for name in names):
            folder, _, last = name.rpartition("/")
            if driver := {".zarray": "zarr", "zarr.json": "zarr3"}.get(last):
                stored = {"driver": "ocdbt", "base": f"{base}/", "path": f"{folder}/"}
                tensorstore.open({"driver": driver, "kvstore": stored}).result().read().result()
    except Exception as error:  # whatever the first broken byte leads to
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        return f"{item} cannot be read{f' at {name}' if name else ''} ({reason})"
    return None if name else f"{item} holds no arrays"
