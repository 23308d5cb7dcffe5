"""Torch files of other people's trainers: what the official one writes opens, and nothing that a file names is run."""

import collections
import contextlib
import enum
import io
import os
import pathlib
import pickle
import struct
import tarfile
import types
import zipfile

import numpy as np
import pytest
import torch
from hub_files import forget, runner_checkpoint, trainer_modules

from nlm_jax.convert import formats
from nlm_jax.convert.io import read_tensors
from nlm_jax.convert.torch_file import Placeholder, read_torch
from nlm_jax.core.errors import UserError

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2, dtype=torch.bfloat16)}


@pytest.fixture
def trainer():
    """The official trainer's modules, with an enum and a dict subclass besides."""
    module = trainer_modules()

    class Kind(enum.Enum):
        SPECIES = "species"

    class Settings(dict):
        pass

    for payloads in (Kind, Settings):
        payloads.__module__, payloads.__qualname__ = "NatureLM.config", payloads.__name__
        setattr(module, payloads.__name__, payloads)
    yield module
    forget()


@pytest.mark.parametrize("options", [{}, {"pickle_protocol": 4}, {"_use_new_zipfile_serialization": False}])
def test_the_official_trainer_s_checkpoint(tmp_path, identical, options):
    runner_checkpoint(tmp_path / "checkpoint_0.pth", STATE, **options)
    with pytest.raises((ModuleNotFoundError, AttributeError)):
        torch.load(tmp_path / "checkpoint_0.pth", weights_only=False)
    content = read_torch(tmp_path / "checkpoint_0.pth")
    assert content["epoch"] == 3
    assert repr(content["config"]["model"]) == "<NatureLM.config.ModelConfig>"
    read = read_tensors(tmp_path / "checkpoint_0.pth")
    assert set(read) == set(STATE)
    assert identical(read["a.weight"], STATE["a.weight"].numpy())
    assert identical(read["a.bias"].astype("f"), STATE["a.bias"].float().numpy())


def test_it_opens_as_a_model(golden, open_golden, tmp_path, identical):
    file = golden / "checkpoints" / "checkpoint_fitted_trainable_only.pth"
    state = torch.load(file, weights_only=True)["model"]
    runner_checkpoint(tmp_path / "checkpoint_best.pth", state)
    assert formats.kind_of(tmp_path / "checkpoint_best.pth") == "naturelm"
    theirs, ours = (
        open_golden(path, base=golden / "model").load() for path in (file, tmp_path / "checkpoint_best.pth")
    )
    assert all(identical(ours.leaves[path], leaf) for path, leaf in theirs.leaves.items())


def test_objects_of_every_make(trainer, tmp_path, identical):
    """What other trainers save besides: enums, sets, deques, dict subclasses, tensors with attributes."""
    marked = torch.nn.Parameter(STATE["a.weight"].clone())
    marked.no_decay = True
    plain = STATE["a.weight"].clone()
    plain.mark = trainer.Kind.SPECIES
    settings = trainer.Settings(x=1)
    settings.own = 2
    content = {
        "args": types.SimpleNamespace(path=pathlib.PurePosixPath("x"), kind=trainer.Kind.SPECIES),
        "by_kind": {trainer.Kind.SPECIES: 1, (1, "a"): 2, ((1,),): 3, torch.float16: 4, torch.device("cpu"): 5},
        "more": [collections.deque([1]), {1, 2}, frozenset({3}), collections.Counter("aab"), np.float64(3), 1 + 2j],
        "settings": settings,
        "state_dict": trainer.Settings(**{"w.x": marked, "w.y": plain, "steps": 7}),
    }
    for protocol in (2, 3, 4, 5):
        torch.save(content, tmp_path / f"{protocol}.pt", pickle_protocol=protocol)
    forget()
    for protocol in (2, 3, 4, 5):
        read = read_tensors(tmp_path / f"{protocol}.pt")
        assert set(read) == {"w.x", "w.y"}
        assert all(identical(view, STATE["a.weight"].numpy()) for view in read.values())
        assert read_torch(tmp_path / f"{protocol}.pt")["settings"] == {"x": 1}


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."]
)
@pytest.mark.parametrize("under", ["model", "state_dict", "model_state_dict", "module", ""])
def test_names_that_a_wrapper_put_a_prefix_to(tmp_path, prefix, under):
    state = {prefix + name: tensor for name, tensor in STATE.items()}
    torch.save({under: state, "epoch": 1} if under else state, tmp_path / "x.pth")
    assert set(read_tensors(tmp_path / "x.pth")) == set(STATE)


def test_a_prefix_of_some_names_is_a_name(tmp_path):
    state = {"module.a": torch.ones(1), "b": torch.ones(1), "c._orig_mod.d": torch.ones(1)}
    torch.save(state, tmp_path / "x.pth")
    assert set(read_tensors(tmp_path / "x.pth")) == {"module.a", "b", "c.d"}


def test_a_wrapped_official_checkpoint(golden, open_golden, tmp_path):
    state = torch.load(golden / "checkpoints" / "checkpoint_full.pth", weights_only=True)["model"]
    torch.save({"model": {f"module.{name}": t for name, t in state.items()}}, tmp_path / "ddp.pth")
    assert open_golden(tmp_path / "ddp.pth", config=golden / "model").lazily().leaves


def test_tensors_of_kinds_that_numpy_lacks(tmp_path):
    """In the optimiser's state they do no harm; among the weights they are named."""
    odd = torch.ones(2).to(torch.float8_e4m3fn)
    torch.save({"model": STATE, "optimizer": {"x": odd, "y": torch.eye(2).to_sparse()}}, tmp_path / "x.pth")
    assert set(read_tensors(tmp_path / "x.pth")) == set(STATE)
    torch.save({"model": STATE | {"scale": odd}}, tmp_path / "y.pth")
    with pytest.raises(UserError, match=r"scale is no plain tensor but <tensor of torch\.float8_e4m3fn>"):
        read_tensors(tmp_path / "y.pth")


class Call:
    """Pickled as a call of `function`."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def hostile(mark):
    """Pickles that would make the file `mark` if anything in them were run."""
    shell = f"touch {mark}".encode()
    yield b"cposix\nsystem\n(V" + shell + b"\ntR."
    yield b"(V" + shell + b"\niposix\nsystem\n."  # INST
    yield b"(cposix\nsystem\nV" + shell + b"\no."  # OBJ
    yield b"\x80\x02cposix\nsystem\n(V" + shell + b"\nt\x81."  # NEWOBJ
    yield b"\x80\x04\x8c\x05posix\x8c\x06system\x93(V" + shell + b"\ntR."  # STACK_GLOBAL
    code = f"open({str(mark)!r}, 'w')"
    for payloads in (
        Call(eval, code),
        Call(exec, code),
        Call(os.system, f"touch {mark}"),
        {"model": STATE, "x": [Call(eval, code)]},
        Call(getattr, Call(__import__, "os"), "system"),
        Call(open, str(mark), "w"),
        Call(pathlib.Path.touch, pathlib.Path(mark)),
        Call(torch.storage._load_from_bytes, pickle.dumps(Call(os.system, f"touch {mark}"))),
        Call(torch._tensor._rebuild_from_type_v2, open, dict, (str(mark), "w"), {}),
        Call(collections.OrderedDict, Call(eval, code)),
        {Call(eval, code): 1},
    ):
        yield pickle.dumps(payloads, protocol=2)
    # The attribute of a function that is allowed, set by BUILD; then a call.
    yield b"ctorch._utils\n_rebuild_tensor_v2\n}V__code__\nV" + shell + b"\nsb."
    yield b"\x80\x02(ccollections\nOrderedDict\n)R}V__class__\ncposix\nsystem\nsb."
    yield b"cos\nFloatStorage\n(V" + shell + b"\ntR."
    yield b"\x80\x02(Vmodule\ncposix\nsystem\nV/etc/passwd\nVx\ntQ."  # torch would read and compare sources
    yield b"\x82\x01."  # a registered extension


def zipped(path, data):
    """A torch archive whose pickle is `data`."""
    torch.save(STATE, path)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, data if name.endswith("data.pkl") else content)


@pytest.mark.parametrize("index", range(21))
def test_nothing_is_run(tmp_path, index):
    mark = tmp_path / "mark"
    data = list(hostile(mark))[index]
    before = dict(vars(torch._utils._rebuild_tensor_v2)), torch._utils._rebuild_tensor_v2.__code__
    zipped(tmp_path / "new.pth", data)
    (tmp_path / "old.pth").write_bytes(b"".join(pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {})) + data)
    (tmp_path / "bare.pth").write_bytes(data)
    for name in ("new.pth", "old.pth", "bare.pth"):
        with contextlib.suppress(UserError):
            read_tensors(tmp_path / name)
        assert not mark.exists()
    assert before == (dict(vars(torch._utils._rebuild_tensor_v2)), torch._utils._rebuild_tensor_v2.__code__)


def test_they_would_be_run_by_another_reader(tmp_path):
    mark = tmp_path / "mark"
    payloads = list(hostile(mark))
    assert len(payloads) == 21
    for data in payloads[:3]:
        with contextlib.suppress(Exception):
            pickle.loads(data)
        assert mark.exists()
        mark.unlink()


def nested(depth):
    """A dict whose key is a tuple in a tuple in a tuple ...: hashing it would exhaust the stack."""
    return b"\x80\x02})" + b"\x85" * depth + b"K\x01s."


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.",  # a mapping in itself
        b"\x80\x02" + b"}X\x01\x00\x00\x00a" * 20_000 + b"N" + b"s" * 20_000 + b".",
        b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
        nested(500_000),
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # memo index of two thousand million
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 50) + b"x.",  # text of a million gigabytes
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",
        b"\x80\x02}" + b"".join(b"q%c}(K\x00h%cK\x01h%cu" % (i, i, i) for i in range(60)) + b".",  # doubled 60 times
        b"",
        b".",
        b"\x80\x02h\x07.",
        b"\x80\x02K\x01K\x02K\x03s.",
    ],
    ids=["itself", "dicts", "lists", "key", "memo", "text", "buffer", "doubling", "empty", "stop", "unset", "no dict"],
)
def test_shapes_that_exhaust_a_reader(tmp_path, data):
    zipped(tmp_path / "x.pth", data)
    with pytest.raises(UserError, match=r"x\.pth"):
        read_tensors(tmp_path / "x.pth")


def test_formats_that_are_programs(tmp_path):
    torch.save(STATE, tmp_path / "script.pt")
    with zipfile.ZipFile(tmp_path / "script.pt", "a") as archive:
        archive.writestr("script/constants.pkl", b"")  # what torch knows them by
    with tarfile.open(tmp_path / "tar.pt", "w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"), io.BytesIO())
    for name in ("script.pt", "tar.pt"):
        with pytest.raises(UserError, match=rf"{name}: is a TorchScript program"):
            read_torch(tmp_path / name)


def test_a_whole_model_object_holds_no_state_dict(tmp_path):
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"<torch\.nn\.modules\.linear\.Linear> where a state dict"):
        read_tensors(tmp_path / "x.pth")


def test_placeholders_are_nothing_but_names():
    one = Placeholder("os.system")
    one.append(1), one.extend([2]), one.add(3)
    assert (repr(one), dict(one), one == Placeholder("os.system")) == ("<os.system>", {}, False)
