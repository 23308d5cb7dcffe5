"""`run.json` of a training run's directory, and where its checkpoints lie.

A run saves only what trains. `run.json` names the source of everything else (imported files, or `frozen.safetensors`
for random weights that never train), with a digest of each such leaf. Training writes it; `open_run` reads it.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from nlm_jax.audio.config import AudioConfig
from nlm_jax.convert.saved import finished
from nlm_jax.core.config import build
from nlm_jax.core.errors import UserError
from nlm_jax.core.files import read_json, write_json
from nlm_jax.core.tree import digest
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.nn.int8 import quantize

RUN, FROZEN, CHECKPOINTS = "run.json", "frozen.safetensors", "checkpoints"
VERSION = 1
Which = Literal["best", "last"]


@dataclasses.dataclass(frozen=True)
class Run:
    """`run.json`: written once, when a run starts."""

    model: NatureLMConfig
    imports: tuple[dict[str, Any], ...]
    """The imports, in order of preference: `src`, `kind` and the options of `open_checkpoint`."""
    digests: dict[str, dict[str, str]]
    """Path -> {dtype, digest} of every leaf that never trains, in the dtype it has in training."""
    stages: tuple[str, ...]
    config: dict[str, Any]
    """The whole config the run was started with."""
    data: dict[str, str] = dataclasses.field(default_factory=dict)
    """Directory of prepared data -> digest of its manifest."""
    official: dict[str, Any] = dataclasses.field(default_factory=dict)
    llama: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Configs that came with the imports and belong into exports."""
    version: int = VERSION


def is_run(src: str | pathlib.Path) -> bool:
    """Whether `src` is a directory that `nlm train` works in."""
    return (pathlib.Path(src) / RUN).is_file()


def write_run(workdir: pathlib.Path, run: Run) -> None:
    """Writes `run.json`."""
    write_json(workdir / RUN, dataclasses.asdict(run))


def read_run(workdir: str | pathlib.Path) -> Run:
    """Raises UserError if there is no run, or one of a newer version."""
    file = pathlib.Path(workdir) / RUN
    if not file.is_file():
        raise UserError(f"{workdir}: not a run directory (no {RUN}); give the --workdir of nlm train")
    content = read_json(file)
    if content.get("version") != VERSION:
        raise UserError(
            f"{file}: of version {content.get('version')!r}, this nlm reads {VERSION}; use the nlm it was made with"
        )
    run = build(Run, content, str(file))
    if "audio" not in content["model"]:  # written before the model's config had it
        run = dataclasses.replace(run, model=dataclasses.replace(run.model, audio=audio_of(run, *run.stages[-1:])))
    return run


def audio_of(run: Run, stage: str = "") -> AudioConfig:
    """How the clips of a stage were made: the length is its own, the filter the run's."""
    lengths = {s.get("name"): s.get("data", {}).get("seconds") for s in run.config.get("stages", ())}
    return dataclasses.replace(run.model.audio, seconds=lengths.get(stage) or run.model.audio.seconds)


def find_checkpoint(workdir: pathlib.Path, stages: tuple[str, ...], which: Which) -> pathlib.Path | None:
    """Directory of the checkpoint `open_run` reads, None if nothing is saved."""
    for stage in reversed(stages):
        for kind in ("best", "last") if which == "best" else ("last",):
            steps = finished(workdir / CHECKPOINTS / stage / kind)
            if steps:
                return workdir / CHECKPOINTS / stage / kind / str(steps[-1])
    return None


def digest_base(leaves: Mapping[str, jax.Array]) -> dict[str, dict[str, str]]:
    """The input of `verify`: path -> {dtype, digest}, independent of the mesh."""
    return {path: {"dtype": np.dtype(leaf.dtype).name, "digest": digest(leaf)} for path, leaf in leaves.items()}


def verify(leaves: Mapping[str, jax.Array], expected: Mapping[str, Mapping[str, str]], where: str) -> None:
    """Raises UserError if a leaf of the base differs from the one the run was trained on.

    A leaf that was loaded in a narrower dtype than it had in training cannot be compared and is passed over.
    """
    for path, entry in expected.items():
        leaf = leaves.get(path)
        if leaf is None or np.dtype(leaf.dtype).itemsize < np.dtype(entry["dtype"]).itemsize:
            continue
        if entry["dtype"] == "int8" and leaf.dtype != jnp.int8:
            leaf = quantize(leaf.astype(jnp.bfloat16))[0]
        if digest(leaf.astype(entry["dtype"])) != entry["digest"]:
            raise UserError(
                f"{where}: mismatched checkpoint: {path} of the base differs from the one this run was trained on; "
                f"restore the file named in {RUN} or start a new --workdir"
            )
