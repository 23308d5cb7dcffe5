"""Pickles as data: tensors and plain values are read, objects of any class become inert placeholders.

A pickle is a program that names functions to call. Here no name of a file is ever looked up: what `CALLS` lists is
rebuilt, everything else (configs of a trainer, paths, enums, but also `os.system`) becomes a `Placeholder` that keeps
the items of a dict subclass and nothing else. The interface is the one that `torch.load(pickle_module=...)` documents.

It builds on the standard library's unpickler in Python, because the one in C obeys memo indices of any size.
"""

import collections
import pickle
from typing import Any, ClassVar

from nlm_jax.convert.placeholder import Placeholder

SCALARS = (str, bytes, int, float, bool, type(None))
REFUSED = (pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER)
"""Codes that no torch file holds: registered extensions, buffers allocated by a size that the file claims."""


def _from_type(rebuild: Any, _kind: Any, args: Any, _state: Any) -> Any:
    """A tensor that had attributes of its own, or was of a subclass: the tensor alone."""
    return _call(rebuild, args)


def _parameter(data: Any, _requires_grad: Any = False, _hooks: Any = None, _state: Any = None) -> Any:
    return data


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_gradient_and_hooks: Any) -> Any:
    import torch  # an optional dependency

    return torch._utils._rebuild_tensor(storage, offset, size, stride)


def _tensor_of_type(storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any):
    import torch

    return torch._utils._rebuild_tensor_v3(storage, offset, size, stride, False, None, dtype)


def _listed(value: Any = ()) -> tuple:
    """Items of a list or tuple; a tensor that claims a size would be cut into that many."""
    if not isinstance(value, list | tuple):
        raise pickle.UnpicklingError(f"makes a list of {type(value).__name__}")
    return tuple(value)


def _ordered(pairs: Any = ()) -> collections.OrderedDict:
    return collections.OrderedDict((_key(key), value) for key, value in map(_listed, _listed(pairs)))


CALLS = {
    ("collections", "OrderedDict"): _ordered,
    ("torch", "Size"): _listed,
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_of_type,
}
"""The only names that are acted on, and the functions here that do it."""


def _call(function: Any, args: Any) -> Any:
    """The result of a call in a pickle: only the functions of `CALLS` are called."""
    if any(function is listed for listed in CALLS.values()):
        return function(*args)
    return Placeholder(function.kind if isinstance(function, Placeholder) else type(function).__name__)


def _key(value: Any) -> Any:
    """A key or member that can be hashed without descending: nested tuples would exhaust the C stack."""
    flat = isinstance(value, tuple) and all(type(item) in SCALARS for item in value)
    return value if flat or type(value) in SCALARS or isinstance(value, Placeholder) else Placeholder("key")


class Unpickler(pickle._Unpickler):
    """Reads one pickle; see the module."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        """The object used for a name: a function of `CALLS`, a dtype or storage type of torch, or a placeholder."""
        if (module, name) in CALLS:
            return CALLS[module, name]
        import torch

        if (module, name) == ("torch.storage", "UntypedStorage"):
            return torch.UntypedStorage
        if module == "torch" and isinstance(dtype := vars(torch).get(name), torch.dtype):
            return dtype
        return Placeholder(f"{module}.{name}")

    def _instantiate(self, function: Any, args: Any) -> None:
        self.append(_call(function, args))

    def load_reduce(self) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        self.append(_call(function, args))

    def load_newobj(self) -> None:
        self.load_reduce()

    def load_newobj_ex(self) -> None:
        self.stack.pop()  # arguments by name
        self.load_reduce()

    def load_build(self) -> None:
        self.stack.pop()  # the state of an object that is not there

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill(key, value)

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._fill(*items)

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._fill(*items)

    def _fill(self, *items: Any) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise pickle.UnpicklingError(f"sets items of {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    def load_additems(self) -> None:
        members = self.pop_mark()
        if isinstance(self.stack[-1], set):
            self.stack[-1].update(map(_key, members))

    def load_frozenset(self) -> None:
        self.append(frozenset(map(_key, self.pop_mark())))

    def load_binpersid(self) -> None:
        pid = self.stack.pop()
        if not isinstance(pid, tuple) or not pid or pid[0] not in ("storage", b"storage"):
            raise pickle.UnpicklingError("refers to something besides tensors")  # torch would read sources of modules
        self.append(self.persistent_load(pid))

    def load_refused(self) -> None:
        raise pickle.UnpicklingError("holds codes that torch does not write")

    for _name in ("reduce", "newobj", "newobj_ex", "build", "setitem", "setitems", "dict", "additems", "frozenset"):
        dispatch[getattr(pickle, _name.upper())[0]] = locals()[f"load_{_name}"]
    dispatch[pickle.BINPERSID[0]] = load_binpersid
    dispatch[pickle.PERSID[0]] = load_refused
    for _code in REFUSED:
        dispatch[_code[0]] = load_refused


def load(file: Any, **options: Any) -> Any:
    """One pickle of `file`, as `pickle.load`."""
    return Unpickler(file, **options).load()
