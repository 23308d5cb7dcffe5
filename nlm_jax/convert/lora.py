"""The adapter: how much of it counts, and the base with it merged in."""

import math
from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from nlm_jax.convert.table import ADAPTED
from nlm_jax.convert.transfer import Lazy, Leaf, fetch
from nlm_jax.core.errors import UserError
from nlm_jax.core.tree import map_named
from nlm_jax.nn.linear import LoraConfig

Tree = TypeVar("Tree")


def interpolate(tree: Tree, merging_alpha) -> Tree:
    """Weights between the base model (0) and the trained one (1), arXiv 2511.05171: lora_b times `merging_alpha`.

    The only place where the factor is applied; loading and exporting both come here. The reference keeps the factor of
    one call for all later ones; here it is part of the weights that come back, and `tree` (any tree of leaves whose
    paths end in `lora_b`) is left as it is.

    Raises:
      UserError: the factor is not a finite number.
    """
    if not isinstance(merging_alpha, int | float | np.number) or not math.isfinite(merging_alpha):
        raise UserError(
            f"merging_alpha={merging_alpha!r}: give a number, 0 for the base model and 1 for the trained one"
        )
    if merging_alpha == 1.0:
        return tree

    def scaled(x):
        return (x.astype(np.float32) * np.float32(merging_alpha)).astype(x.dtype)

    def one(path, leaf):
        if not path.endswith("lora_b"):
            return leaf
        return leaf.map(scaled) if isinstance(leaf, Lazy) else scaled(leaf)

    return map_named(one, tree)


def merge(leaves: Mapping[str, Leaf], lora: LoraConfig) -> dict[str, Leaf]:
    """Leaves without adapter: kernel + lora_a @ lora_b * alpha / rank in float32, rounded once to the kernel's dtype.

    The merged kernels are made layer by layer when they are read.
    """
    merged = {path: leaf for path, leaf in leaves.items() if not path.endswith(("/lora_a", "/lora_b"))}
    for name in ADAPTED:
        stem = f"llama/layers/{name}"
        kernel, a, b = (leaves[f"{stem}/{part}"] for part in ("kernel", "lora_a", "lora_b"))

        def read(layer, kernel=kernel, a=a, b=b):
            base, down, up = (fetch(leaf, layer).astype(np.float32) for leaf in (kernel, a, b))
            return (base + down @ up * np.float32(lora.scale)).astype(kernel.dtype)

        merged[f"{stem}/kernel"] = Lazy(tuple(kernel.shape), np.dtype(kernel.dtype), True, read)
    return merged
