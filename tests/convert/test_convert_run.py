"""The working directory of a training run as a checkpoint: what it trained over what it was trained on."""

import dataclasses

import numpy as np
import orbax.checkpoint as ocp
import pytest

from nlm_jax.convert import formats, run_file
from nlm_jax.convert.io import read_json
from nlm_jax.convert.transfer import fetch
from nlm_jax.core.errors import UserError
from nlm_jax.core.tree import nest


@pytest.fixture
def workdir(golden, open_golden, tmp_path):
    """A run over the golden weights that doubled the projection, as `nlm train` leaves one behind."""
    first = open_golden().load()
    trained = {p: leaf * 2 for p, leaf in first.leaves.items() if p.startswith("audio_proj")}
    base = {p: first.leaves[p] for p in ("llama/layers/q_proj/lora_b", "llama/norm/scale", "beats/norm/scale")}
    with ocp.CheckpointManager(tmp_path / "run" / run_file.CHECKPOINTS / "stage1" / "last") as manager:
        manager.save(3, args=ocp.args.Composite(params=ocp.args.StandardSave(nest(trained))))
    options = {"llm": str(golden / "llama"), "qformer_config": str(golden / "qformer_config.json")}
    imports = ({"src": str(golden / "model"), "kind": "naturelm"} | options,)
    digests = run_file.digest_base(base)
    configs = {"official": dict(first.official), "llama": dict(first.llama)}
    written = run_file.Run(first.config, imports, digests, ("stage1",), {}, **configs)
    run_file.write_run(tmp_path / "run", written)
    return tmp_path / "run"


@pytest.mark.parametrize("which", ["best", "last"])
@pytest.mark.parametrize("how", ["load", "lazily"])
def test_what_was_trained_over_its_base(workdir, open_golden, identical, which, how):
    assert formats.kind_of(workdir) == "run"
    checkpoint = getattr(formats.open_checkpoint(workdir, which=which), how)()
    for path, leaf in open_golden().load().leaves.items():
        expected = leaf * 2 if path.startswith("audio_proj") else leaf
        assert identical(fetch(checkpoint.leaves[path]), expected), path


def test_it_leaves_in_the_official_layout(workdir, tmp_path, golden):
    formats.save(formats.open_checkpoint(workdir).lazily(), tmp_path / "out")
    again = formats.open_checkpoint(
        tmp_path / "out", llm=golden / "llama", qformer_config=golden / "qformer_config.json"
    ).load()
    assert np.asarray(again.leaves["audio_proj/kernel"]).any()
    moved = {"llama_path": str(golden / "llama")}
    assert read_json(tmp_path / "out/config.json") == read_json(golden / "model/config.json") | moved


@pytest.mark.parametrize("how", ["load", "lazily"])
def test_another_base_is_refused(workdir, golden, how):
    """The imports now name other weights: the fitted ones differ from the start in every trained leaf."""
    loaded = run_file.read_run(workdir)
    fitted = loaded.imports[0] | {
        "src": str(golden / "checkpoints" / "checkpoint_fitted_trainable_only.pth"),
        "base": str(golden / "model"),
        "config": str(golden / "model"),
    }
    run_file.write_run(workdir, dataclasses.replace(loaded, imports=(fitted,)))
    opened = formats.open_checkpoint(workdir)
    with pytest.raises(UserError, match="mismatched checkpoint"):
        getattr(opened, how)()
