"""Streaming onto devices: the same values on any mesh, and about one tensor on the host at a time."""

import gc
import tracemalloc

import jax
import numpy as np
import pytest

from nlm_jax.convert import formats, io, transfer
from nlm_jax.mesh.build import make_mesh
from nlm_jax.mesh.rules import rules

CHUNKS = pytest.mark.parametrize("chunk", [transfer.CHUNK, 1], ids=["at once", "layer by layer"])


@pytest.mark.parametrize(
    ("sizes", "chunk"),
    [((1, 8, 1), transfer.CHUNK), ((2, 2, 2), transfer.CHUNK), ((1, 4, 2), transfer.CHUNK), ((1, 4, 2), 1)],
    ids=["1x8x1", "2x2x2", "1x4x2", "1x4x2 layer by layer"],
)
def test_sharded_equals_unsharded(open_golden, identical, monkeypatch, sizes, chunk):
    opened = open_golden()
    whole = opened.load()
    monkeypatch.setattr(transfer, "CHUNK", chunk)
    mesh = make_mesh(*sizes)
    targets = {p: t for p, t in opened.targets(mesh, rules()).items() if p.startswith("llama/") or chunk > 1}
    sharded = opened.load(targets)
    for path, leaf in sharded.leaves.items():
        assert leaf.sharding.is_equivalent_to(targets[path].sharding, leaf.ndim), path
        assert identical(leaf, whole.leaves[path]), path
    assert len(sharded.leaves["llama/layers/q_proj/kernel"].addressable_shards[0].data.ravel()) < leaf_size(whole)


def leaf_size(checkpoint):
    return checkpoint.leaves["llama/layers/q_proj/kernel"].size


def test_sharded_weights_are_written_as_whole_ones(golden, open_golden, tmp_path):
    opened = open_golden()
    sharded = opened.load(opened.targets(make_mesh(1, 4, 2), rules()))
    formats.save(sharded, tmp_path / "out")
    formats.save(sharded, tmp_path / "nlm", "nlm")
    assert (tmp_path / "out/model.safetensors").read_bytes() == (golden / "model/model.safetensors").read_bytes()
    formats.save(formats.open_checkpoint(tmp_path / "nlm").lazily(), tmp_path / "again")
    assert (tmp_path / "again/model.safetensors").read_bytes() == (golden / "model/model.safetensors").read_bytes()


@CHUNKS
def test_a_layer_axis_may_be_cut_too(monkeypatch, identical, chunk):
    monkeypatch.setattr(transfer, "CHUNK", chunk)
    mesh = make_mesh(1, 8, 1)
    spec = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("fsdp", None))
    views = [np.full((3,), i, "f") for i in range(16)]
    leaf = transfer.place(views, True, np.dtype("f"), spec)
    assert leaf.sharding.is_equivalent_to(spec, 2)
    assert identical(leaf, np.stack(views))


def big(tmp_path, layers, stacked):
    """A file of `layers` tensors of 1 MiB, or of one that holds them all."""
    rng = np.random.default_rng(0)
    tensors = {f"x.{i}": rng.normal(size=(512, 512)).astype("f") for i in range(layers)}
    if stacked:
        tensors = {"x": np.stack(list(tensors.values()))}
    entries = [io.Entry(n, t.shape, t.dtype, lambda t=t: iter((t,))) for n, t in tensors.items()]
    io.write_safetensors(tmp_path / "x.safetensors", entries)
    return io.read_safetensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize("stacked", [False, True], ids=["theirs", "ours"])
def test_the_host_holds_about_one_tensor(tmp_path, monkeypatch, stacked):
    layers, tensor = 24, 2**20
    views = big(tmp_path, layers, stacked)
    monkeypatch.setattr(transfer, "CHUNK", tensor)
    mesh = make_mesh(1, 8, 1)
    spec = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, None, "fsdp"))
    arguments = ([v.T for v in views.values()], True) if not stacked else ([views["x"]], False)
    transfer.place(*arguments, np.dtype("f"), spec)  # compiles
    gc.collect()
    tracemalloc.start()
    leaf = transfer.place(*arguments, np.dtype("f"), spec)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert leaf.nbytes == layers * tensor
    assert peak < 4 * tensor


def test_writing_holds_about_one_tensor(tmp_path):
    layers, tensor = 24, 2**20
    mesh = make_mesh(1, 8, 1)
    spec = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, None, "fsdp"))
    leaf = transfer.place([v.T for v in big(tmp_path, layers, False).values()], True, np.dtype("f"), spec)
    transfer.fetch(leaf, 0)  # compiles
    gc.collect()
    tracemalloc.start()
    entries = [
        io.Entry(str(i), (512, 512), np.dtype("f"), lambda i=i: iter((transfer.fetch(leaf, i).T,)))
        for i in range(layers)
    ]
    io.write_safetensors(tmp_path / "out.safetensors", entries)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * tensor
    assert np.array_equal(io.read_safetensors(tmp_path / "out.safetensors")["7"], np.asarray(leaf[7]).T)


def test_a_device_never_keeps_the_mapped_file(tmp_path):
    """On CPU jax may adopt host memory; a file that is overwritten later must not change the weights."""
    views = big(tmp_path, 1, False)
    leaf = transfer.place(list(views.values()), False, np.dtype("f"))
    before = np.array(leaf)
    with open(tmp_path / "x.safetensors", "r+b") as file:
        file.seek(-(2**20), 2)
        file.write(bytes(2**20))
    assert not views["x.0"].any()
    assert np.array_equal(np.asarray(leaf), before)


def test_dtypes_are_converted_during_transfer(open_golden):
    import ml_dtypes

    bf16, f32 = np.dtype(ml_dtypes.bfloat16), np.dtype("f")
    storage = lambda path, own: bf16 if path.startswith("llama/") and "lora" not in path else own  # noqa: E731
    checkpoint = open_golden().load(storage=storage)
    assert checkpoint.leaves["llama/lm_head/kernel"].dtype == bf16
    assert checkpoint.leaves["llama/layers/q_proj/lora_a"].dtype == f32
    assert checkpoint.leaves["audio_proj/kernel"].dtype == f32
