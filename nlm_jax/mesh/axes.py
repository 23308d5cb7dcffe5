"""Names of the logical axes of parameters and of the axes of the mesh."""

from typing import Literal, get_args

Axis = Literal[
    "layers",  # stacked layers, scanned
    "embed",  # width of a model
    "mlp",  # width of its feed-forward part
    "heads",  # query heads times head size, or heads alone
    "kv_heads",  # key/value heads times head size
    "vocab",  # rows of the vocabulary
    "lora",  # rank of an adapter
    "patch",  # pixels or channels of the patch embedding
    "bucket",  # buckets of the relative position table
    "window",  # query tokens of a window
]
AXES: tuple[str, ...] = get_args(Axis)

MESH_AXES = ("data", "fsdp", "tensor")
"""data: weights replicated; fsdp: weights sharded and gathered layer by layer; tensor: heads and mlp sharded."""

ROWS = ("data", "fsdp")
"""Mesh axes over which the rows of a batch are sharded."""
