"""Dtypes by name, and the matmul precision that makes float32 mean float32 on every device."""

import jax
import jax.numpy as jnp

from nlm_jax.core.errors import UserError

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def dtype(name: str):
    """The dtype called `name`. float16 is deliberately not supported: BEATs diverges in it.

    Raises:
      UserError: any other name.
    """
    if name not in DTYPES:
        raise UserError(f"dtype {name!r} is not supported; use one of {', '.join(DTYPES)}")
    return jnp.dtype(DTYPES[name])


def matmul_precision(dtype) -> jax.lax.Precision:
    """Full precision for float32 operands: accelerators would round them to bfloat16 or TF32 by default."""
    return jax.lax.Precision.HIGHEST if dtype == jnp.float32 else jax.lax.Precision.DEFAULT
