"""The directory of a run: created once, opened and checked on resume, with the base weights that no stage trains."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from nlm_jax.convert.io import Entry, read_safetensors, write_safetensors
from nlm_jax.convert.leaves import Source, find, load
from nlm_jax.convert.nlm_format import TOKENIZER, parts
from nlm_jax.convert.run_file import FROZEN, Run, digest_base, is_run, read_run, verify, write_run
from nlm_jax.convert.table import native
from nlm_jax.convert.vocabulary import copy_tokenizer
from nlm_jax.core.errors import UserError
from nlm_jax.core.tree import named_leaves
from nlm_jax.data.shard_cache import local_index
from nlm_jax.data.text import Tokenizer
from nlm_jax.nn.int8 import SCALE, dequantize, scale_path
from nlm_jax.train.config import TrainConfig, first_difference, free_model_fields
from nlm_jax.train.partition import component
from nlm_jax.train.program import Program
from nlm_jax.train.remote_workdir import RemoteWorkdir
from nlm_jax.train.state import TrainState
from nlm_jax.train.weights import Weights, quantize_to


@dataclasses.dataclass(frozen=True)
class RunDir:
    """The directory of a run that this process works in."""

    config: TrainConfig
    path: Path
    weights: Weights
    run: Run | None
    """Content of `run.json`; None until a new run is created."""
    remote: RemoteWorkdir | None = None
    """The bucket that `path` mirrors, if it does."""

    @property
    def name(self) -> str:
        """Path or URL of the directory, as the user gave it."""
        return self.remote.mirror.url if self.remote else str(self.path)

    @property
    def checkpoint_root(self) -> epath.Path:
        """The directory that holds the folder of checkpoints."""
        return epath.Path(self.remote.direct if self.remote and self.remote.direct else self.path)

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The language model's tokenizer."""
        return Tokenizer.from_pretrained(self.weights.tokenizer)

    def base_leaves(self, state: TrainState) -> dict[str, jax.Array]:
        """Path -> leaf of what no stage trains."""
        trained = {name for stage in self.config.stages for name in stage.train.named()}
        return {path: leaf for path, leaf in named_leaves(state.frozen).items() if component(path) not in trained}

    def trained_leaves(self, leaves: Mapping[str, Any], stage: int) -> dict[str, Any]:
        """The leaves (by path) that the stages up to number `stage` train: what its checkpoints must hold."""
        trained = {name for s in self.config.stages[: stage + 1] for name in s.train.named()}
        return {path: leaf for path, leaf in leaves.items() if component(path) in trained}


def open_run_dir(config: TrainConfig, workdir: Path, weights: Weights, remote: RemoteWorkdir | None = None) -> RunDir:
    """Opens the run in `workdir` to resume it, or prepares a new one; nothing is written.

    Raises:
      UserError: the run there was started with another config, other weights or other data, or `workdir` is a file.
    """
    if not is_run(workdir):
        if workdir.is_file():
            raise UserError(f"--workdir={workdir}: is a file; give a directory")
        return RunDir(config, workdir, weights, None, remote)
    run = read_run(workdir)
    if difference := first_difference(run.config, dataclasses.asdict(config)):
        name, old, new = difference
        raise UserError(
            f"--workdir={workdir}: its run was started with config.{name}={old!r}, this config has {new!r}; "
            "set it back, or give another --workdir"
        )
    # `audio` follows from config.stages[-1].data, which was compared above.
    ignored = {name: getattr(run.model, name) for name in (*free_model_fields(), "audio")}
    model = dataclasses.replace(weights.model, **ignored)
    if difference := first_difference(dataclasses.asdict(run.model), dataclasses.asdict(model)):
        name, old, new = difference
        raise UserError(
            f"--workdir={workdir}: mismatched checkpoint: its model has {name}={old!r}, the imported weights have "
            f"{new!r}; restore the files the run was started with"
        )
    now = data_digests(config)
    for directory, digest in run.data.items():
        if now.get(directory, digest) != digest:
            raise UserError(
                f"--workdir={workdir}: its run was started with other data in {directory}, which was prepared again "
                "since; restore it, or give another --workdir"
            )
    return RunDir(config, workdir, weights, run, remote)


def data_digests(config: TrainConfig) -> dict[str, str]:
    """Directory -> digest of its manifest, for the prepared data of all stages that exists."""
    directories = [
        directory
        for data in (stage.data for stage in config.stages)
        for directory in (*data.train, *data.valid, *data.augment.noise_dirs, *data.augment.reverb_dirs)
    ]
    files = {directory: local_index(directory) / "manifest.json" for directory in directories}
    return {d: hashlib.sha256(f.read_bytes()).hexdigest()[:32] for d, f in files.items() if f.is_file()}


# --- base weights: what no stage trains is stored once and not in the checkpoints -------------------------------------
#
#   a leaf that is ...                     is stored in              digest in run.json
#   importable                             the imported file only    yes
#   random (or trained by an earlier run)  frozen.safetensors        yes
#   the same in int8                       frozen.safetensors,       no: quantizing the float32 values gives the same
#                                          dequantized to float32    integers and scales again


def create_run(run_dir: RunDir, state: TrainState) -> Run:
    """Writes `run.json`, the tokenizer and `frozen.safetensors` of a new run.

    Args:
      run_dir: the run.
      state: the state in which its first stage starts.

    Returns:
      the content of `run.json`.
    """
    base, importable = run_dir.base_leaves(state), run_dir.weights.importable()
    if jax.process_index() == 0:
        run_dir.path.mkdir(parents=True, exist_ok=True)
        copy_tokenizer(run_dir.weights.tokenizer, run_dir.path / TOKENIZER)
    if entries := frozen_entries(base, importable):
        write_safetensors(run_dir.path / FROZEN, entries)
    dequantized = {path for path, leaf in base.items() if leaf.dtype == jnp.int8 and path not in importable}
    without_digest = dequantized | {scale_path(path) for path in dequantized}
    run = Run(
        model=run_dir.weights.model,
        imports=run_dir.weights.imports,
        digests=digest_base({path: leaf for path, leaf in base.items() if path not in without_digest}),
        stages=tuple(stage.name for stage in run_dir.config.stages),
        config=dataclasses.asdict(run_dir.config),
        data=data_digests(run_dir.config),
        official=run_dir.weights.source_config("official"),
        llama=run_dir.weights.source_config("llama"),
    )
    if jax.process_index() == 0:
        write_run(run_dir.path, run)
    return run


def frozen_entries(base: Mapping[str, jax.Array], importable: Collection[str]) -> list[Entry]:
    """Entries of `frozen.safetensors`: the leaves of `base` that cannot be imported again.

    Args:
      base: path -> leaf of what no stage trains; an int8 kernel and its scales are two leaves.
      importable: paths whose leaves the imports of the run provide.
    """
    entries = []
    for path, leaf in base.items():
        if path in importable or path.endswith(SCALE):
            continue
        if leaf.dtype == jnp.int8:
            values = functools.partial(dequantize, leaf, base[scale_path(path)])
            entries.append(frozen_entry(path, leaf.shape, np.dtype("float32"), values))
        else:
            entries.append(frozen_entry(path, leaf.shape, leaf.dtype, lambda leaf=leaf: leaf))
    return entries


def frozen_entry(path: str, shape: tuple[int, ...], dtype: np.dtype, values: Callable[[], jax.Array]) -> Entry:
    """Entry of one leaf, whose `values` are computed when it is written."""
    return Entry(path, tuple(shape), dtype, lambda: parts(path, values()))


def load_base(run_dir: RunDir, program: Program, *, whole_model: bool) -> dict[str, jax.Array]:
    """Weights that the run starts from, except those in its checkpoints.

    Args:
      run_dir: the run.
      program: of the stage that starts or resumes.
      whole_model: whether to load also what stages train (for a first stage without checkpoint).

    Returns:
      path -> leaf, on the shardings of `program`. Leaves that neither an import nor the run has are missing.

    Raises:
      UserError: the base is not the one the run was started with.
    """
    targets = program.params()
    if run_dir.run is None:
        return run_dir.weights.load(targets)
    leaves: dict[str, jax.Array] = {}
    file = run_dir.path / FROZEN
    if file.is_file():
        tensors = read_safetensors(file)
        frozen = {path: targets[path] for path in tensors}
        leaves = load(
            find([Source(str(file), tensors, native(tensors))], frozen), frozen, transform=quantize_to(targets)
        )
    paths = targets if whole_model else run_dir.run.digests
    leaves |= run_dir.weights.load({path: targets[path] for path in paths if path not in leaves})
    verify(leaves, run_dir.run.digests, str(run_dir.path))
    return leaves
