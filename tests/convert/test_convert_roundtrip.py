"""What comes in goes out again bit for bit, by every road."""

import json

import jax
import ml_dtypes
import numpy as np
import pytest
import torch

from nlm_jax.convert import formats, io
from nlm_jax.convert.transfer import fetch
from nlm_jax.core.errors import UserError

BF16 = np.dtype(ml_dtypes.bfloat16)


@pytest.fixture(params=["loaded", "lazy"])
def ready(request):
    """The two ways from an opened checkpoint to one that can be written."""
    return lambda opened: opened.load() if request.param == "loaded" else opened.lazily()


def values(checkpoint):
    return {path: fetch(leaf) for path, leaf in checkpoint.leaves.items()}


def same_files(out, golden):
    """The official directory again; but the official class looks llama_path up from where a program runs."""
    assert (out / "model.safetensors").read_bytes() == (golden / "model" / "model.safetensors").read_bytes()
    moved = {"llama_path": str(golden / "llama")}
    assert io.read_json(out / "config.json") == io.read_json(golden / "model" / "config.json") | moved


@pytest.mark.parametrize("source", ["model", "checkpoints/checkpoint_full.pth"])
def test_official_in_official_out(golden, open_golden, ready, tmp_path, source):
    opened = open_golden(golden / source, config=golden / "model")
    formats.save(ready(opened), tmp_path / "out")
    same_files(tmp_path / "out", golden)
    for file in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "config.json"):
        tokenizer_file = (tmp_path / "out" / "llama" / file).read_text()
        assert json.loads(tokenizer_file) == json.loads((golden / "llama" / file).read_text())


def test_our_own_export_needs_nothing_else(open_golden, tmp_path, identical):
    """Neither the language model's directory nor the Q-Former's sizes have to be named again."""
    first = open_golden().lazily()
    formats.save(first, tmp_path / "out")
    again = formats.open_checkpoint(tmp_path / "out").lazily()
    assert again.config == first.config
    assert again.pad_rows == 1
    assert all(identical(v, values(first)[path]) for path, v in values(again).items())


def test_through_our_own_format(open_golden, golden, ready, tmp_path):
    formats.save(ready(open_golden()), tmp_path / "nlm", "nlm")
    opened = formats.open_checkpoint(tmp_path / "nlm")
    assert opened.config == open_golden().config
    assert (opened.tokenizer / "tokenizer.json").is_file()
    formats.save(ready(opened), tmp_path / "out")
    same_files(tmp_path / "out", golden)


def test_mixed_types_stay_mixed(open_golden, ready, tmp_path):
    """As built for a GPU: the language model in bfloat16, everything else in float32."""
    formats.save(open_golden().lazily(), tmp_path / "mixed", dtype="bfloat16")
    types = {name: view.dtype for name, view in io.read_tensors(tmp_path / "mixed").items()}
    assert all((t == BF16) == name.startswith("llama") for name, t in types.items())
    opened = formats.open_checkpoint(tmp_path / "mixed")
    formats.save(ready(opened), tmp_path / "out")
    assert (tmp_path / "out/model.safetensors").read_bytes() == (tmp_path / "mixed/model.safetensors").read_bytes()


def test_partial_checkpoint_over_the_language_model(golden, open_golden, identical):
    """The frozen output head is not in it and comes from the Llama directory, whose missing [PAD] row becomes zero."""
    path = golden / "checkpoints" / "checkpoint_trainable_only.pth"
    partial, full = values(open_golden(path, config=golden / "model").load()), values(open_golden().load())
    head = "llama/lm_head/kernel"
    assert [p for p in full if not identical(partial[p], full[p])] == [head]
    assert identical(partial[head][:, :400], full[head][:, :400])
    assert not partial[head][:, 400].any()


def test_partial_checkpoint_over_a_full_one(golden, open_golden, identical):
    path = golden / "checkpoints" / "checkpoint_fitted_trainable_only.pth"
    fitted, full = values(open_golden(path, base=golden / "model").load()), values(open_golden().load())
    changed = {p for p in full if not identical(fitted[p], full[p])}
    assert "llama/lm_head/kernel" not in changed
    assert {"llama/layers/q_proj/lora_b", "audio_proj/kernel"} <= changed
    assert not any(p.endswith("kernel") and p.startswith("llama/") for p in changed)


def test_microsoft_in_microsoft_out(golden, ready, tmp_path, identical):
    source = golden / "checkpoints" / "beats_microsoft_format.pt"
    formats.save(ready(formats.open_checkpoint(source)), tmp_path / "out", "beats")
    theirs = torch.load(source, weights_only=True)
    ours = torch.load(tmp_path / "out" / "beats.pt", weights_only=True)
    assert ours["cfg"] == theirs["cfg"]
    assert set(ours["model"]) == set(theirs["model"])
    assert all(identical(ours["model"][name].numpy(), t.numpy()) for name, t in theirs["model"].items())
    again = formats.open_checkpoint(tmp_path / "out").lazily()
    assert again.parts == ("beats",)
    assert all(identical(v, values(formats.open_checkpoint(source).lazily())[p]) for p, v in values(again).items())


def test_the_encoder_of_a_whole_model(golden, open_golden, tmp_path, identical):
    formats.save(open_golden().lazily(), tmp_path / "out", "beats")
    theirs = io.read_torch(golden / "checkpoints" / "beats_microsoft_format.pt")["model"]
    ours = io.read_torch(tmp_path / "out" / "beats.pt")["model"]
    assert all(identical(ours[name], tensor) for name, tensor in theirs.items())


@pytest.mark.parametrize("shard", [10**9, 100_000])
def test_hugging_face_in_hugging_face_out(golden, ready, tmp_path, identical, shard):
    checkpoint = ready(formats.open_checkpoint(golden / "llama", pad_rows=1))
    assert checkpoint.config.llama.vocab == 401
    formats.save(checkpoint, tmp_path / "out", "llama-merged", pad_row=False, max_shard_bytes=shard)
    assert (tmp_path / "out" / io.INDEX).is_file() == (shard < 10**9)
    if shard == 10**9:
        assert (tmp_path / "out" / io.SINGLE).read_bytes() == (golden / "llama" / io.SINGLE).read_bytes()
    theirs, ours = io.read_tensors(golden / "llama"), io.read_tensors(tmp_path / "out")
    assert set(ours) == set(theirs)
    assert all(identical(ours[name], theirs[name]) for name in theirs)
    assert io.read_json(tmp_path / "out/config.json") == io.read_json(golden / "llama/config.json")
    again = formats.open_checkpoint(tmp_path / "out", pad_rows=1).lazily()
    assert all(identical(v, values(checkpoint)[path]) for path, v in values(again).items())


def test_the_base_can_travel_with_the_official_layout(golden, open_golden, tmp_path, identical):
    formats.save(open_golden().lazily(), tmp_path / "out", with_base=True)
    theirs, ours = io.read_tensors(golden / "llama"), io.read_tensors(tmp_path / "out" / "llama")
    assert set(ours) == set(theirs)
    assert all(identical(ours[name], theirs[name]) for name in theirs)


def test_a_loaded_model_holds_what_the_file_holds(open_golden, identical):
    checkpoint = open_golden().load()
    model = checkpoint.model()
    assert identical(model.beats.layers.fc1.kernel[...], checkpoint.leaves["beats/layers/fc1/kernel"])
    assert identical(model.llama.lm_head.kernel[...], checkpoint.leaves["llama/lm_head/kernel"])


def test_a_checkpoint_without_a_source(tmp_path):
    """Weights made here, no files behind them: what official and Hugging Face files hold besides is filled in."""
    from nlm_jax.convert import checkpoint as c
    from nlm_jax.convert.leaves import abstract
    from nlm_jax.models.presets import preset

    cfg, rng = preset("tiny"), np.random.default_rng(0)
    leaves = {path: rng.normal(size=leaf.shape).astype("f") for path, leaf in abstract(cfg).items()}
    created = c.Checkpoint(cfg, leaves)
    for name in ("naturelm", "nlm"):
        formats.save(created, tmp_path / name, name)
        assert formats.open_checkpoint(tmp_path / name).load().config == cfg
    assert io.read_json(tmp_path / "naturelm/llama/config.json")["vocab_size"] == cfg.llama.vocab - 1
    for name in ("llama-merged", "beats"):
        formats.save(created, tmp_path / name, name)
    with pytest.raises(UserError, match=r"where the language model came from is not known; write it .* --with-base"):
        formats.save(created, tmp_path / "peft", "peft")
    formats.save(created, tmp_path / "peft", "peft", with_base=True)
    assert io.read_json(tmp_path / "peft/base/config.json")["vocab_size"] == cfg.llama.vocab - 1
    assert io.read_json(tmp_path / "llama-merged/config.json")["vocab_size"] == cfg.llama.vocab


def test_no_device_is_used_from_file_to_file(open_golden, tmp_path, monkeypatch):
    def never(*_args, **_kwargs):
        raise AssertionError("a device was used")

    monkeypatch.setattr(jax, "make_array_from_callback", never)
    monkeypatch.setattr(jax, "device_put", never)
    formats.save(open_golden().lazily(merging_alpha=0.5), tmp_path / "out", "llama-merged")
    assert (tmp_path / "out" / "model.safetensors").is_file()
