"""Tensor files: byte for byte as the safetensors library writes them, and one sentence for what cannot be read."""

import builtins
import json
import struct

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch

from nlm_jax.convert import io
from nlm_jax.core.errors import UserError

RNG = np.random.default_rng(3)
MIXED = {
    "b": RNG.normal(size=(3, 4)).astype("f"),
    "a": RNG.normal(size=(2, 2)).astype(ml_dtypes.bfloat16),
    "c.ids": np.arange(6).reshape(1, 6),
    "d": RNG.normal(size=(5,)).astype(np.float16),
    "empty": np.zeros((0, 3), "f"),
}


def entries(tensors):
    return [io.Entry(name, t.shape, t.dtype, lambda t=t: iter((t,))) for name, t in tensors.items()]


def test_written_as_the_library_writes(tmp_path, identical):
    io.write_safetensors(tmp_path / "ours.safetensors", entries(MIXED), {"dropped": "kept"})
    safetensors.numpy.save_file(MIXED, tmp_path / "theirs.safetensors", {"dropped": "kept"})
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()
    views = io.read_safetensors(tmp_path / "ours.safetensors")
    assert set(views) == set(MIXED)
    assert all(identical(views[name], MIXED[name]) for name in MIXED)


def test_parts_follow_one_another(tmp_path, identical):
    whole = RNG.normal(size=(4, 3)).astype("f")
    io.write_safetensors(
        tmp_path / "x.safetensors", [io.Entry("x", whole.shape, whole.dtype, lambda: iter(np.split(whole, 4)))]
    )
    assert identical(io.read_safetensors(tmp_path / "x.safetensors")["x"], whole)


def test_transposed_tensors_are_written_in_their_own_order(tmp_path, identical):
    x = RNG.normal(size=(4, 3)).astype("f")
    io.write_safetensors(tmp_path / "x.safetensors", [io.Entry("x", (3, 4), x.dtype, lambda: iter((x.T,)))])
    assert identical(io.read_safetensors(tmp_path / "x.safetensors")["x"], np.ascontiguousarray(x.T))


def test_a_failed_write_leaves_no_file(tmp_path):
    def broken():
        yield MIXED["b"][:1]
        raise RuntimeError("the device went away")

    with pytest.raises(RuntimeError):
        io.write_safetensors(tmp_path / "x.safetensors", [io.Entry("b", (3, 4), np.dtype("f"), broken)])
    assert not (tmp_path / "x.safetensors").exists()


def test_shards_and_their_index(tmp_path, identical):
    io.write_sharded(tmp_path, entries(MIXED), {"format": "pt"}, max_shard_bytes=60)
    index = json.loads((tmp_path / io.INDEX).read_text())
    files = sorted(set(index["weight_map"].values()))
    assert len(files) > 1
    assert files == [f"model-{i:05d}-of-{len(files):05d}.safetensors" for i in range(1, len(files) + 1)]
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in MIXED.values())
    for name, file in index["weight_map"].items():
        assert name in safetensors.numpy.load_file(tmp_path / file)
    assert all(identical(view, MIXED[name]) for name, view in io.read_tensors(tmp_path).items())
    (tmp_path / files[1]).unlink()
    with pytest.raises(UserError, match=files[1]):
        io.read_tensors(tmp_path)


def test_torch_files_of_every_make(tmp_path, identical):
    state = {"x": torch.arange(6.0).reshape(2, 3), "y": torch.ones(2, dtype=torch.bfloat16), "z": torch.zeros(2, 3).T}
    for name, content in {
        "model.pth": {"model": state, "epoch": 3},
        "trained.pth": {"model_state_dict": state, "optimizer": {"state": {0: [torch.ones(1)]}}},
        "bare.pt": state,
    }.items():
        torch.save(content, tmp_path / name)
        read = io.read_tensors(tmp_path / name)
        assert set(read) == set(state)
        assert read["y"].dtype == ml_dtypes.bfloat16
        assert identical(read["x"], state["x"].numpy())
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert identical(io.read_tensors(tmp_path / "old.pt")["x"], state["x"].numpy())


def test_bfloat16_goes_to_torch_and_back(tmp_path, identical):
    torch.save({"x": io.to_torch(MIXED["a"])}, tmp_path / "x.pt")
    assert identical(io.read_tensors(tmp_path / "x.pt")["x"], MIXED["a"])


class Surprise:
    """Not plain data: an unpickler that makes one of these runs code of the file."""


def damaged(tmp_path, kind):
    path = tmp_path / ("x.pth" if kind in ("code", "text.pth", "no tensors") else "x.safetensors")
    if kind == "code":
        torch.save({"model": Surprise()}, path)
    elif kind == "text.pth":
        path.write_text("not a checkpoint")
    elif kind == "no tensors":
        torch.save({"epoch": 1}, path)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "not json":
        path.write_bytes(struct.pack("<Q", 8) + b"nonsense")
    elif kind == "cut":
        io.write_safetensors(path, entries(MIXED))
        path.write_bytes(path.read_bytes()[:-10])
    elif kind == "cut header":
        io.write_safetensors(path, entries(MIXED))
        path.write_bytes(path.read_bytes()[:40])
    elif kind == "float8":
        header = json.dumps({"x": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0")
    elif kind in ("list", "entry", "negative"):
        odd = {"list": ["x"], "entry": {"x": {"dtype": "F32", "shape": 2}}}
        odd["negative"] = {"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}
        header = json.dumps(odd[kind]).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header)
    elif kind == "wrong size":
        header = json.dumps({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    return path


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("code", "Surprise> where a state dict belongs"),
        ("text.pth", "not a torch file"),
        ("no tensors", "no state dict"),
        ("empty", "cut short"),
        ("not json", "not JSON"),
        ("cut", "10 bytes are missing"),
        ("cut header", "cut short"),
        ("float8", "F8_E4M3"),
        ("wrong size", "damaged"),
        ("list", "not that of a safetensors file"),
        ("entry", "not that of a safetensors file"),
        ("negative", "not that of a safetensors file"),
        ("absent", "no such file"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, kind, says):
    path = damaged(tmp_path, kind)
    with pytest.raises(UserError, match=says) as caught:
        io.read_tensors(path)
    assert str(path) in str(caught.value)


def test_an_empty_directory(tmp_path):
    with pytest.raises(UserError, match=r"neither model\.safetensors nor"):
        io.read_tensors(tmp_path)


@pytest.mark.parametrize("index", [{}, {"weight_map": ["a"]}, {"weight_map": {"a": 1}}])
def test_an_index_of_nothing(tmp_path, index):
    (tmp_path / io.INDEX).write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"index\.json: holds no weight_map"):
        io.read_tensors(tmp_path)


def test_torch_files_without_torch(tmp_path, monkeypatch):
    torch.save({"x": torch.ones(1)}, tmp_path / "x.pth")
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "torch":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"nlm_jax\[torch\]"):
        io.read_tensors(tmp_path / "x.pth")


def test_json_that_is_none(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        io.read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match="JSON object"):
        io.read_json(tmp_path / "config.json")
