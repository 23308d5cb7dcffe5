"""A training run's directory as a checkpoint: what was trained, over the base it was trained on.

A run saves only what trains. `run.json` says where everything else came from (files that were imported, or
`frozen.safetensors` for what was drawn at random and never trained), with a digest of each such leaf.
"""

import dataclasses
import json
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from nlm_jax.audio.config import AudioConfig
from nlm_jax.convert import table
from nlm_jax.convert.checkpoint import PARTS, Checkpoint, Opened
from nlm_jax.convert.hub import is_id
from nlm_jax.convert.io import read_json, read_safetensors
from nlm_jax.convert.load import Source, Storage, as_stored
from nlm_jax.convert.place import fetch
from nlm_jax.convert.saved import PARAMS, check, finished, read_params
from nlm_jax.core.config import build
from nlm_jax.core.errors import UserError
from nlm_jax.core.logging import METRICS
from nlm_jax.core.remote import local
from nlm_jax.core.tree import digest
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.nn.int8 import quantize

RUN, FROZEN, TOKENIZER, CHECKPOINTS = "run.json", "frozen.safetensors", "tokenizer", "checkpoints"
VERSION = 1
Which = Literal["best", "last"]


@dataclasses.dataclass(frozen=True)
class Run:
    """`run.json`: written once, when a run starts."""

    model: NatureLMConfig
    imports: tuple[dict[str, Any], ...]
    """What was imported, in order of preference: `src`, `kind` and the options of `open_checkpoint`."""
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
    """Writes `run.json` whole or not at all."""
    part = workdir / (RUN + ".part")
    part.write_text(json.dumps(dataclasses.asdict(run), indent=1), encoding="utf-8")
    part.replace(workdir / RUN)


def read_run(workdir: str | pathlib.Path) -> Run:
    """Raises UserError where there is no run, or one of a newer version."""
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


@dataclasses.dataclass(frozen=True)
class OpenedRun(Opened):
    """An opened run: its trained leaves come first, and loading checks the base against the digests."""

    workdir: pathlib.Path = pathlib.Path()
    digests: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    imports: tuple[dict[str, Any], ...] = ()
    trained: tuple[str, ...] = ()
    """Paths whose weights this run changed."""

    def load(self, targets=None, *, storage: Storage = as_stored, **options: Any) -> Checkpoint:
        """As `Opened.load`. Raises UserError too where the base is not the one the run was trained on."""
        checkpoint = Opened.load(self, targets, storage=storage, **options)
        scaled = options.get("merging_alpha", 1.0) != 1.0  # an adapter that was frozen differs on purpose then
        base = {p: leaf for p, leaf in checkpoint.leaves.items() if not (scaled and "/lora_" in p)}
        verify(base, self.digests, str(self.workdir))
        return checkpoint

    def only(self, parts: Collection[str]) -> "OpenedRun":
        """As `Opened.only`; what is not read needs no digest."""
        narrowed = Opened.only(self, parts)
        digests = {path: entry for path, entry in self.digests.items() if path.split("/")[0] in parts}
        return dataclasses.replace(narrowed, digests=digests)

    def lazily(self, *, storage: Storage = as_stored, merging_alpha: float = 1.0) -> Checkpoint:
        """As `Opened.lazily`, with the base read once to check it, leaf by leaf."""
        checkpoint = Opened.lazily(self, storage=storage, merging_alpha=merging_alpha)
        for path in self.digests:
            if merging_alpha == 1.0 or "/lora_" not in path:
                verify({path: jnp.asarray(fetch(checkpoint.leaves[path]))}, self.digests, str(self.workdir))
        return checkpoint


def open_run(src: str | pathlib.Path, which: Which = "best", parts: Collection[str] = PARTS) -> OpenedRun:
    """The trained model of a run: the best of its last stage by validation loss, or the last one saved.

    Args:
      src: the --workdir of `nlm train`; training may still be going on.
      which: "best" falls back to the last one where nothing was validated yet.
      parts: what will be read. Imports that hold none of it need not be there any more.

    Raises:
      UserError: no run there, nothing saved yet, or an imported file that is gone.
    """
    workdir = local(src)
    run = read_run(workdir)
    saved = find_checkpoint(workdir, run.stages, which)
    if saved is None:
        raise UserError(f"{workdir}: the run has saved no checkpoint yet; let nlm train reach its first one")
    check(saved, (PARAMS,))
    trained = read_params(saved)
    sources = [Source(str(saved), trained, table.native(trained))]
    if (workdir / FROZEN).is_file():
        frozen = read_safetensors(workdir / FROZEN)
        sources.append(Source(str(workdir / FROZEN), frozen, table.native(frozen)))
    own = {path for source in sources for path in source.tensors}
    imported = [_open_import(entry, run.model, parts) for entry in run.imports]
    sources += [source for one in imported for source in one.sources]
    base = next((one for one in imported if "llama" in one.parts), Opened(run.model, ()))
    tokenizer = workdir / TOKENIZER
    return OpenedRun(
        # Wherever it goes, plain attention runs there.
        config=dataclasses.replace(run.model, attention="xla", audio=audio_of(run, saved.parent.parent.name)),
        sources=tuple(sources),
        official=run.official,
        llama=run.llama,
        tokenizer=tokenizer if (tokenizer / "tokenizer.json").is_file() else None,
        workdir=workdir,
        digests=run.digests,
        imports=run.imports,
        trained=tuple(trained),
        history=history(run, workdir, saved, imported),
        base=base.base,
        base_changed=base.base_changed or any(p.startswith("llama/") and "/lora_" not in p for p in own),
    )


def _open_import(entry: Mapping[str, Any], model: NatureLMConfig, parts: Collection[str]) -> Opened:
    """An import of a run, as far as `parts`; a language model or an encoder that is not among them is not opened."""
    from nlm_jax.convert.formats import kind_of, open_checkpoint  # formats knows every kind, runs too

    kind = entry.get("kind", "auto")
    if kind in PARTS and kind not in parts:
        return Opened(model, (), parts=(kind,))
    kind = kind_of(entry["src"]) if kind == "auto" else kind
    narrowed = kind in ("naturelm", "run") and not set(PARTS) <= set(parts)
    return open_checkpoint(**{**entry, "kind": kind}, parts=parts if narrowed else None)


def history(run: Run, workdir: pathlib.Path, saved: pathlib.Path, imported: Sequence[Opened]) -> dict[str, Any]:
    """What the model card says of a run at the checkpoint `saved`.

    Returns:
      stages (name, steps, batch, trained, data) up to that of the checkpoint, `from` (names of what was imported, and
      the stages of those), `encoder` (name of an imported one) and `figures` (its validation, if there was one).
    """
    stage = saved.parent.parent.name
    before = [made for one in imported for made in one.history.get("stages", ())]
    made = []
    for name, given in zip(run.stages, run.config.get("stages") or (), strict=False):
        data, parts = given["data"], given.get("train") or {}
        batch = data.get("rows", 0) * data.get("row_clips", 1)
        names = [pathlib.PurePath(d).name for d in data.get("train", ())]
        trained = [part for part, on in parts.items() if on]
        made.append({"name": name, "steps": given.get("steps"), "batch": batch, "trained": trained, "data": names})
        if name == stage:
            break
    sources = {entry["src"]: one.parts for entry, one in zip(run.imports, imported, strict=True)}
    if earlier := (run.config.get("init") or {}).get("run"):
        sources = {earlier: ()} | sources
    called = {src: src if is_id(src) else pathlib.PurePath(src).name for src in sources}
    return {
        "stages": [*before, *made],
        "from": list(called.values()),
        "encoder": next((called[src] for src, parts in sources.items() if parts == ("beats",)), ""),
        "figures": _validation(workdir / METRICS, stage, saved.parent.name == "best"),
    }


def _validation(file: pathlib.Path, stage: str, best: bool) -> dict[str, Any]:
    """The lowest or the last validation of a stage in `metrics.jsonl`, {} where there is none."""
    if not file.is_file():
        return {}
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if '"valid"' in line]
    held = [r for r in records if r.get("kind") == "valid" and r.get("stage") == stage and "loss" in r]
    if not held:
        return {}
    return min(held, key=lambda r: r["loss"]) if best else held[-1]


def find_checkpoint(workdir: pathlib.Path, stages: tuple[str, ...], which: Which) -> pathlib.Path | None:
    """Directory of the checkpoint `open_run` reads, None where nothing is saved."""
    for stage in reversed(stages):
        for kind in ("best", "last") if which == "best" else ("last",):
            steps = finished(workdir / CHECKPOINTS / stage / kind)
            if steps:
                return workdir / CHECKPOINTS / stage / kind / str(steps[-1])
    return None


def digest_base(leaves: Mapping[str, jax.Array]) -> dict[str, dict[str, str]]:
    """What `verify` compares: path -> {dtype, digest}. The mesh makes no difference."""
    return {path: {"dtype": np.dtype(leaf.dtype).name, "digest": digest(leaf)} for path, leaf in leaves.items()}


def verify(leaves: Mapping[str, jax.Array], expected: Mapping[str, Mapping[str, str]], where: str) -> None:
    """Raises UserError where a leaf of the base differs from the one the run was trained on.

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
