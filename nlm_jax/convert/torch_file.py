"""`.pt` and `.pth` files: what they hold as data, and the state dict in what trainers of all kinds save."""

import pathlib
import re
import tarfile
import zipfile
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from nlm_jax.convert import pickled
from nlm_jax.convert.placeholder import Placeholder
from nlm_jax.core.errors import UserError

STATE_DICTS = ("model", "model_state_dict", "state_dict", "module")
"""Where trainers put the state dict in what they save."""
WRAPPERS = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Name parts of torch.compile, FSDP and activation checkpointing, wherever they wrap a module."""
PARALLEL = "module."
"""Prefix of every name under DataParallel and DistributedDataParallel."""


def read_torch(path: pathlib.Path) -> Any:
    """The content of a `.pt`/`.pth` file with every tensor as a numpy view; no code of the file runs.

    Objects other than tensors and plain data, such as the config of the official trainer, become placeholders, and so
    do tensors of a type that numpy does not know.

    Raises:
      UserError: torch is not installed, or the file is no torch file.
    """
    try:
        import torch
    except ImportError as error:
        raise UserError(f"{path}: reading .pt and .pth files needs torch: pip install 'nlm_jax[torch]'") from error
    if _holds_program(path):
        raise UserError(
            f"{path}: is a TorchScript program or a torch file from before 2018; save its state_dict() again"
        )
    options = {"map_location": "cpu", "weights_only": False, "pickle_module": pickled}
    try:
        try:
            content = torch.load(path, mmap=True, **options)
        except RuntimeError:  # files from before torch 1.6 cannot be memory-mapped
            content = torch.load(path, **options)
    except Exception as error:  # torch raises many kinds for a damaged file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: not a torch file that can be read: {reason}") from error
    return _as_numpy(content)


def _as_numpy(content: Any) -> Any:
    """`content` with tensors as arrays in mappings of any depth; a mapping that is met again is converted once."""
    import torch

    copies: dict[int, dict[Any, Any]] = {}  # by identity: a file may refer to one mapping many times, or to itself
    waiting: list[Mapping] = []

    def converted(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return _array(value)
        if not isinstance(value, Mapping) or (isinstance(value, Placeholder) and not value):
            return value
        if id(value) not in copies:
            copies[id(value)] = {}
            waiting.append(value)
        return copies[id(value)]

    whole = converted(content)
    while waiting:
        mapping = waiting.pop()
        copies[id(mapping)].update((key, converted(value)) for key, value in mapping.items())
    return whole


def _array(tensor: Any) -> np.ndarray | Placeholder:
    import torch

    try:
        if tensor.dtype == torch.bfloat16:
            return tensor.detach().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return tensor.detach().numpy()
    except (TypeError, RuntimeError):  # float8, sparse, without storage
        return Placeholder(f"tensor of {tensor.dtype}")


def _holds_program(path: pathlib.Path) -> bool:
    """Whether torch would read the file by other means than an unpickler: TorchScript, or its first format (tar)."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(name.rpartition("/")[2] == "constants.pkl" for name in archive.namelist())
    return tarfile.is_tarfile(path)


def state_dict(content: Any, where: str) -> dict[str, np.ndarray]:
    """The tensors by name in what `read_torch` gives, without the names that wrappers of the model put before theirs.

    They may be the content itself or lie under one of `STATE_DICTS`.

    Raises:
      UserError: no tensors there, or a parameter that is no plain tensor.
    """
    for _ in STATE_DICTS:  # one may lie in another
        inner = (content.get(key) for key in STATE_DICTS) if isinstance(content, Mapping) else ()
        content = next((value for value in inner if isinstance(value, Mapping) and value), content)
    named = content.items() if isinstance(content, Mapping) else ()
    by_name = {name: value for name, value in named if isinstance(name, str)}
    if odd := next((key for key in STATE_DICTS if isinstance(by_name.get(key), Placeholder)), None):
        raise UserError(f"{where}: holds {by_name[odd]!r} where a state dict belongs; save what its state_dict() gives")
    if not any(isinstance(value, np.ndarray) for value in by_name.values()):
        raise UserError(f"{where}: holds no state dict; expected tensors by name, or a dict with one under 'model'")
    if odd := next((name for name, value in by_name.items() if isinstance(value, Placeholder)), None):
        raise UserError(
            f"{where}: {odd} is no plain tensor but {by_name[odd]!r}; save it as float32, bfloat16 or float16"
        )
    return unwrapped({name: value for name, value in by_name.items() if isinstance(value, np.ndarray)})


def unwrapped(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors under the names of the model itself, if DDP, FSDP or torch.compile wrapped it."""
    names = {name: WRAPPERS.sub("", name) for name in tensors}
    while names and all(name.startswith(PARALLEL) for name in names.values()):
        names = {old: name.removeprefix(PARALLEL) for old, name in names.items()}
    if len(set(names.values())) < len(tensors):
        return dict(tensors)  # two would be one: the checks of the layout name them
    return {name: tensors[old] for old, name in names.items()}
