"""A training run's directory as a checkpoint: what was trained, over the base it was trained on."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from nlm_jax.convert import table
from nlm_jax.convert.checkpoint import PARTS, Checkpoint, Opened
from nlm_jax.convert.io import read_safetensors
from nlm_jax.convert.leaves import Source, Storage, as_stored
from nlm_jax.convert.nlm_format import TOKENIZER
from nlm_jax.convert.run_file import FROZEN, Run, Which, audio_of, find_checkpoint, read_run, verify
from nlm_jax.convert.saved import PARAMS, check, read_params
from nlm_jax.convert.transfer import fetch
from nlm_jax.core.errors import UserError
from nlm_jax.core.hub import is_id
from nlm_jax.core.logging import METRICS
from nlm_jax.core.remote import local
from nlm_jax.models.config import NatureLMConfig

OpenImport = Callable[[Mapping[str, Any], NatureLMConfig, Collection[str]], Opened]
"""(entry of `Run.imports`, model of the run, parts to read) -> the import, opened."""


@dataclasses.dataclass(frozen=True)
class OpenedRun(Opened):
    """An opened run: its trained leaves come first, and loading checks the base against the digests."""

    workdir: pathlib.Path = pathlib.Path()
    digests: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    imports: tuple[dict[str, Any], ...] = ()
    trained: tuple[str, ...] = ()
    """Paths whose weights this run changed."""

    def load(self, targets=None, *, storage: Storage = as_stored, **options: Any) -> Checkpoint:
        """As `Opened.load`. Raises UserError too if the base is not the one the run was trained on."""
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


def open_run(
    src: str | pathlib.Path, which: Which = "best", parts: Collection[str] = PARTS, *, open_import: OpenImport
) -> OpenedRun:
    """The trained model of a run: the best of its last stage by validation loss, or the last one saved.

    Args:
      src: the --workdir of `nlm train`; training may still be going on.
      which: "best" falls back to the last one if nothing was validated yet.
      parts: what will be read. Imports that hold none of it need not exist any more.
      open_import: opens an import of the run. `formats` passes its own, as an import may be of any format.

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
    imported = [open_import(entry, run.model, parts) for entry in run.imports]
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


def history(run: Run, workdir: pathlib.Path, saved: pathlib.Path, imported: Sequence[Opened]) -> dict[str, Any]:
    """Facts for the model card of a run at the checkpoint `saved`.

    Returns:
      stages (name, steps, batch, trained, data) up to that of the checkpoint, `from` (names of what was imported, and
      the stages of those), `encoder` (name of an imported one) and `figures` (its validation, if there was one).
    """
    stage = saved.parent.parent.name
    earlier_stages = [s for one in imported for s in one.history.get("stages", ())]
    stages = []
    for name, stage_config in zip(run.stages, run.config.get("stages") or (), strict=False):
        data, parts = stage_config["data"], stage_config.get("train") or {}
        batch = data.get("rows", 0) * data.get("row_clips", 1)
        names = [pathlib.PurePath(d).name for d in data.get("train", ())]
        trained = [part for part, on in parts.items() if on]
        stages.append(
            {"name": name, "steps": stage_config.get("steps"), "batch": batch, "trained": trained, "data": names}
        )
        if name == stage:
            break
    sources = {entry["src"]: one.parts for entry, one in zip(run.imports, imported, strict=True)}
    if earlier := (run.config.get("init") or {}).get("run"):
        sources = {earlier: ()} | sources
    called = {src: src if is_id(src) else pathlib.PurePath(src).name for src in sources}
    return {
        "stages": [*earlier_stages, *stages],
        "from": list(called.values()),
        "encoder": next((called[src] for src, parts in sources.items() if parts == ("beats",)), ""),
        "figures": _validation(workdir / METRICS, stage, saved.parent.name == "best"),
    }


def _validation(file: pathlib.Path, stage: str, best: bool) -> dict[str, Any]:
    """The lowest or the last validation of a stage in `metrics.jsonl`, {} if there is none."""
    if not file.is_file():
        return {}
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if '"valid"' in line]
    validations = [r for r in records if r.get("kind") == "valid" and r.get("stage") == stage and "loss" in r]
    if not validations:
        return {}
    return min(validations, key=lambda r: r["loss"]) if best else validations[-1]
