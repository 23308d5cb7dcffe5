"""The vocabulary: what a dimension of a parameter may be called, and what the mesh's axes are called."""

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
"""data: copies of the weights; fsdp: weights in pieces, gathered layer by layer; tensor: heads and mlp in pieces."""

ROWS = ("data", "fsdp")
"""Mesh axes over which the rows of a batch are spread."""
