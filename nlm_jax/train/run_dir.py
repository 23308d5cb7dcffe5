"""The run's directory: begun once, or found and checked, with the weights that every stage stands on."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from nlm_jax.convert.io import Entry, read_safetensors, write_safetensors
from nlm_jax.convert.leaves import Source, find, load
from nlm_jax.convert.nlm_format import parts
from nlm_jax.convert.run_file import FROZEN, TOKENIZER, Run, digest_base, is_run, read_run, verify, write_run
from nlm_jax.convert.table import native
from nlm_jax.core.errors import UserError
from nlm_jax.core.tree import named_leaves
from nlm_jax.data.shard_cache import index
from nlm_jax.data.text import Tokenizer
from nlm_jax.nn.int8 import SCALE, dequantize, scale_path
from nlm_jax.train.config import TrainConfig, changed
from nlm_jax.train.partition import component
from nlm_jax.train.program import Program
from nlm_jax.train.remote_workdir import Bucket
from nlm_jax.train.state import TrainState
from nlm_jax.train.weights import Weights, as_int8, copy_tokenizer


@dataclasses.dataclass(frozen=True)
class Session:
    """A run under way in `workdir`."""

    config: TrainConfig
    workdir: Path
    weights: Weights
    run: Run | None
    """What `run.json` said when this process started; None for a new run."""
    place: Bucket | None = None
    """The bucket that `workdir` mirrors."""

    @property
    def where(self) -> str:
        """What the user calls the work directory."""
        return self.place.mirror.url if self.place else str(self.workdir)

    @property
    def checkpoints(self) -> epath.Path:
        """The folder below which checkpoints are written."""
        return epath.Path(self.place.direct if self.place and self.place.direct else self.workdir)

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """Of the language model."""
        return Tokenizer.from_pretrained(self.weights.tokenizer)

    def base(self, state: TrainState) -> dict[str, jax.Array]:
        """Path -> leaf of what no stage trains."""
        chosen = {name for stage in self.config.stages for name in stage.train.named()}
        return {path: leaf for path, leaf in named_leaves(state.frozen).items() if component(path) not in chosen}

    def moved(self, leaves: Mapping[str, Any], stage: int) -> dict[str, Any]:
        """The part of `leaves` (by path) that the stages up to number `stage` train: what its checkpoints must hold."""
        chosen = {name for s in self.config.stages[: stage + 1] for name in s.train.named()}
        return {path: leaf for path, leaf in leaves.items() if component(path) in chosen}


def open_session(config: TrainConfig, workdir: Path, weights: Weights, place: Bucket | None = None) -> Session:
    """The run in `workdir`, or a new one there.

    Raises:
      UserError: the run there was started with another config or other weights, or the directory is no run's.
    """
    if not is_run(workdir):
        if workdir.is_file():
            raise UserError(f"--workdir={workdir}: is a file; give a directory")
        return Session(config, workdir, weights, None, place)
    run = read_run(workdir)
    if found := changed(run.config, dataclasses.asdict(config)):
        name, old, new = found
        raise UserError(
            f"--workdir={workdir}: its run was started with config.{name}={old!r}, this config has {new!r}; "
            "set it back, or give another --workdir"
        )
    free = {name: getattr(run.model, name) for name in ("remat", "attention", "audio")}
    model = dataclasses.replace(weights.model, **free)
    if found := changed(dataclasses.asdict(run.model), dataclasses.asdict(model)):
        name, old, new = found
        raise UserError(
            f"--workdir={workdir}: mismatched checkpoint: its model has {name}={old!r}, the imported weights have "
            f"{new!r}; restore the files the run was started with"
        )
    now = fingerprints(config)
    for directory, digest in run.data.items():
        if now.get(directory, digest) != digest:
            raise UserError(
                f"--workdir={workdir}: its run was started with other data in {directory}, prepared anew since; "
                "restore it, or give another --workdir"
            )
    return Session(config, workdir, weights, run, place)


def fingerprints(config: TrainConfig) -> dict[str, str]:
    """Directory -> digest of its manifest, for all data of all stages that is there."""
    named = [
        directory
        for data in (stage.data for stage in config.stages)
        for directory in (*data.train, *data.valid, *data.augment.noise_dirs, *data.augment.reverb_dirs)
    ]
    files = {directory: index(directory) / "manifest.json" for directory in named}
    return {d: hashlib.sha256(f.read_bytes()).hexdigest()[:32] for d, f in files.items() if f.is_file()}


def stand_on(session: Session, program: Program, *, everything: bool) -> dict[str, jax.Array]:
    """Weights from the imports: of the whole model (`everything`), or only of what no stage trains.

    Raises:
      UserError: the base is not the one the run was started with.
    """
    targets = program.params()
    if session.run is None:
        return session.weights.load(targets)
    leaves: dict[str, jax.Array] = {}
    file = session.workdir / FROZEN
    if file.is_file():
        tensors = read_safetensors(file)
        own = {path: targets[path] for path in tensors}
        leaves = load(find([Source(str(file), tensors, native(tensors))], own), own, kept=as_int8(targets))
    wanted = targets if everything else session.run.digests
    leaves |= session.weights.load({path: targets[path] for path in wanted if path not in leaves})
    verify(leaves, session.run.digests, str(session.workdir))
    return leaves


def begin(session: Session, state: TrainState) -> Run:
    """Writes down what the run stands on: `run.json`, the tokenizer, and what can be had nowhere else."""
    base, importable = session.base(state), session.weights.importable()
    held = {path: base[scale_path(path)] for path, leaf in base.items() if leaf.dtype == jnp.int8}
    drawn = {p: leaf for p, leaf in base.items() if p not in importable and not p.endswith(SCALE)}
    if jax.process_index() == 0:
        session.workdir.mkdir(parents=True, exist_ok=True)
        copy_tokenizer(session.weights.tokenizer, session.workdir / TOKENIZER)
    # Integers drawn at random are their own only source: read back from their float32 form, they are what they were.
    unseen = {q for p in held if p in drawn for q in (p, scale_path(p))}
    if drawn:
        made = []
        for path, leaf in drawn.items():
            whole = functools.partial(dequantize, leaf, held[path]) if path in held else lambda leaf=leaf: leaf
            dtype = np.dtype("float32") if path in held else leaf.dtype
            made.append(Entry(path, tuple(leaf.shape), dtype, lambda path=path, whole=whole: parts(path, whole())))
        write_safetensors(session.workdir / FROZEN, made)
    run = Run(
        model=session.weights.model,
        imports=session.weights.imports,
        digests=digest_base({p: leaf for p, leaf in base.items() if p not in unseen}),
        stages=tuple(stage.name for stage in session.config.stages),
        config=dataclasses.asdict(session.config),
        data=fingerprints(session.config),
        official=session.weights.carried("official"),
        llama=session.weights.carried("llama"),
    )
    if jax.process_index() == 0:
        write_run(session.workdir, run)
    return run
