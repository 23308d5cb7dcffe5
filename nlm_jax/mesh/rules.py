"""Mapping from logical axes to mesh axes. A preset is one table; models do not depend on it."""

from collections.abc import Mapping

from nlm_jax.core.config import unknown
from nlm_jax.core.errors import UserError
from nlm_jax.mesh.axes import AXES, MESH_AXES

Rules = tuple[tuple[str, str | None], ...]

FROZEN = "frozen"
"""Key of a table for weights that do not train: None keeps them whole, whatever their axes."""
REPLICATED = dict.fromkeys(AXES)
PRESETS: dict[str, dict[str, str | None]] = {
    # "vocab" is not sharded: the released checkpoints have 128257 rows, which no mesh divides; their width is instead.
    "default": REPLICATED | {"embed": "fsdp", "mlp": "tensor", "heads": "tensor", "kv_heads": "tensor"},
    # A frozen base needs no gradients: whole on every device, it is never gathered. The rest is sharded as above.
    "replicated-base": REPLICATED
    | {"embed": "fsdp", "mlp": "tensor", "heads": "tensor", "kv_heads": "tensor", FROZEN: None},
    # Weights whole on every device: for models that fit, if gathering costs more than it saves.
    "replicated": REPLICATED,
}


def rules(preset: str = "default", changes: Mapping[str, str | None] | None = None) -> Rules:
    """The table of a preset with changes applied.

    Args:
      preset: a name in `PRESETS`.
      changes: logical axis -> mesh axis, or None for not sharded.

    Returns:
      pairs (logical axis, mesh axis), the form `nnx.logical_axis_rules` takes.

    Raises:
      UserError: an unknown preset, logical axis or mesh axis.
    """
    if preset not in PRESETS:
        raise UserError(f"mesh.rules={preset!r}: {unknown(preset, PRESETS)}")
    table = dict(PRESETS[preset])
    for logical, physical in (changes or {}).items():
        if logical not in (*AXES, FROZEN):
            raise UserError(f"mesh rule {logical!r}: {unknown(logical, (*AXES, FROZEN))}")
        if logical == FROZEN and physical is not None:
            raise UserError(
                f"mesh rule {logical}={physical!r}: frozen weights are kept whole (None) or follow the other rules"
            )
        if physical is not None and physical not in MESH_AXES:
            raise UserError(f"mesh rule {logical}={physical!r}: {unknown(physical, MESH_AXES)}")
        table[logical] = physical
    return tuple(table.items())
