"""Host views of a file's tensors -> arrays where they will live, and back, one layer or a few at a time.

Going in, each device is sent its own slice straight from the memory-mapped file. Stacked leaves larger than `CHUNK` are
filled group by group of layers into a donated buffer, so that the host holds about one source tensor at any moment.
"""

import concurrent.futures
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

CHUNK = 256 * 2**20
"""Bytes of host memory that may be used at once for several layers of one leaf."""

ALIGNMENT = 64
"""Bytes; what starts elsewhere is copied by jax."""
CACHED = 2**18
"""Values looked at together: they stay in the processor's cache."""
LINES = 256
"""Columns of a transposed matrix copied together: whole cache lines are read, and the pages written are few."""
THREADS = min(8, os.cpu_count() or 1)

EXPONENT = {np.dtype(ml_dtypes.bfloat16): 0x7F80, np.dtype(np.float16): 0x7C00}
"""Infinity as bits, for types that numpy tests slowly: without the sign NaN is larger and all else is smaller."""


class NotFinite(ValueError):
    """A tensor that was read holds infinity or NaN."""


def finite(values: np.ndarray) -> bool:
    """Whether no value is infinite or NaN."""
    bits, flat = EXPONENT.get(values.dtype), values.reshape(-1)
    for part in (flat[start : start + CACHED] for start in range(0, flat.size, CACHED)):
        if bits is None and not np.isfinite(part).all():
            return False
        if bits is not None and (part.view(np.uint16) & 0x7FFF).max() >= bits:  # without the sign
            return False
    return True


def place(views: Sequence[np.ndarray], stacked: bool, dtype: np.dtype, sharding: Sharding | None = None) -> jax.Array:
    """One leaf from its tensor, or (`stacked`) from the tensors of its layers.

    Args:
      views: numpy views in our orientation; only what a device needs is read from them.
      stacked: whether the leaf has a leading layer axis that the views lack.
      dtype: of the leaf.
      sharding: where it goes; the first local device when None.
    """
    sharding = sharding or SingleDeviceSharding(jax.local_devices()[0])
    if not stacked and views[0].ndim > 2 and views[0].nbytes > CHUNK:  # stored stacked, as in our own files
        views, stacked = list(views[0]), True
    if not stacked:
        return _array(views[0].shape, sharding, dtype, lambda index: [views[0][index]], False)
    step = max(1, CHUNK // max(1, views[0].nbytes))
    if step >= len(views) or _is_host(sharding):
        return _rows(views, dtype, sharding)
    # A group of layers cannot be cut along the layer axis, the whole leaf can.
    part_sharding = sharding
    if isinstance(sharding, NamedSharding):
        part_sharding = NamedSharding(sharding.mesh, PartitionSpec(None, *sharding.spec[1:]))
    leaf = _zeros((len(views), *views[0].shape), jnp.dtype(dtype), sharding)
    for start in range(0, len(views), step):
        part = _rows(views[start : start + step], dtype, part_sharding)
        leaf = jax.block_until_ready(_update(leaf, part, start, sharding))
    return leaf


def _rows(views, dtype, sharding):
    def layers(index):
        return [view[index[1:]] for view in views[index[0]]]

    return _array((len(views), *views[0].shape), sharding, dtype, layers, True)


def _is_host(sharding: Sharding) -> bool:
    """Whether the leaf will live in this host's memory, where filling it layer by layer only copies it once more."""
    return len(sharding.device_set) == 1 and all(d.platform == "cpu" for d in sharding.device_set)


def _array(shape, sharding, dtype, parts, stacked):
    seen: dict[tuple, np.ndarray] = {}  # devices that hold the same slice share one read

    def read(index):
        key = tuple((s.start, s.stop) for s in index)
        if key not in seen:
            views = parts(index)
            values = _aligned((len(views), *views[0].shape) if stacked else views[0].shape, dtype)
            with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
                done = list(
                    pool.map(_copy_finite, [values[i, ...] for i in range(len(views))] if stacked else [values], views)
                )
            if not all(done):
                raise NotFinite
            seen[key] = values
        return seen[key]

    return jax.make_array_from_callback(shape, sharding, read, dtype=dtype)


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Memory that jax keeps as it is on a CPU; it must not be the mapped file's."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def _copy_finite(out: np.ndarray, view: np.ndarray) -> bool:
    """Copies `view`; returns whether all of it is finite."""
    if view.ndim == 2 and view.strides[0] < view.strides[1]:  # transposed: most of what a Llama is made of
        for start in range(0, view.shape[1], LINES):
            part = slice(start, start + LINES)
            np.copyto(out[:, part], view[:, part], casting="unsafe")
    else:
        np.copyto(out, view, casting="unsafe")
    return finite(out)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _zeros(shape, dtype, sharding):
    return jax.lax.with_sharding_constraint(jnp.zeros(shape, dtype), sharding)


@functools.partial(jax.jit, static_argnums=3, donate_argnums=0)
def _update(leaf, part, start, sharding):
    leaf = jax.lax.dynamic_update_slice_in_dim(leaf, part, start, 0)
    return jax.lax.with_sharding_constraint(leaf, sharding)


@dataclasses.dataclass(frozen=True)
class Lazy:
    """A leaf that is read or computed when it is written: file to file, no model is ever in memory.

    `read(i)` gives layer i of a leaf that is `stacked`, `read(None)` the whole of one that is not.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    stacked: bool
    read: Callable[[int | None], np.ndarray]

    def map(self, change: Callable[[np.ndarray], np.ndarray]) -> "Lazy":
        """The leaf with `change`, which keeps shape and dtype, done to each of its layers."""
        return dataclasses.replace(self, read=lambda layer: change(self.read(layer)))


Leaf = jax.Array | np.ndarray | Lazy


def fetch(leaf: Leaf, layer: int | None = None) -> np.ndarray:
    """A leaf, or one layer of a stacked leaf, whole on the host. All processes of a run must take part."""
    if isinstance(leaf, Lazy):
        if layer is None and leaf.stacked:
            return np.stack([leaf.read(i) for i in range(leaf.shape[0])])
        return leaf.read(layer) if leaf.stacked or layer is None else leaf.read(None)[layer]
    if isinstance(leaf, np.ndarray):
        return leaf if layer is None else leaf[layer]
    if leaf.is_fully_addressable and len(leaf.devices()) == 1 and next(iter(leaf.devices())).platform == "cpu":
        whole = np.asarray(leaf)  # a view of the device's own memory
        return whole if layer is None else whole[layer]
    leaf = _copy(leaf) if layer is None else _layer(leaf, layer)  # never `leaf` itself: jax caches its host copy on it
    return np.asarray(leaf) if leaf.is_fully_addressable else multihost_utils.process_allgather(leaf, tiled=True)


@jax.jit
def _layer(leaf, layer):
    return jax.lax.dynamic_index_in_dim(leaf, layer, keepdims=False)


@jax.jit
def _copy(leaf):
    return jnp.copy(leaf)
