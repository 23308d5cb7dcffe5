"""Grouped-query attention: with a boolean mask, or causal within packed rows by the fastest kernel of the device."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from nlm_jax.core.errors import UserError
from nlm_jax.core.precision import matmul_precision
from nlm_jax.mesh.axes import ROWS
from nlm_jax.nn.masks import packed_causal
from nlm_jax.nn.remat import ATTENTION

LANES = 128

MASKED = -1e30
"""Finite, so that a row with nothing to attend to stays finite instead of NaN."""


def attend(
    q: Float[Array, "B S N H"],
    k: Float[Array, "B Sk K H"],
    v: Float[Array, "B Sk K H"],
    mask: Bool[Array, "B S Sk"],
) -> Float[Array, "B S N H"]:
    """softmax(q k / sqrt(H)) v; each key head serves N / K query heads. Softmax in float32.

    Plain einsums, valid on every device. Source: transformers' eager Llama attention.
    """
    (b, s, n, h), kv = q.shape, k.shape[2]
    precision = matmul_precision(q.dtype)
    grouped = q.reshape(b, s, kv, n // kv, h)
    scores = jnp.einsum("BSKGH,BTKH->BKGST", grouped, k, precision=precision, preferred_element_type=jnp.float32)
    scores = jnp.where(mask[:, None, None], scores * h**-0.5, MASKED)
    probs = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("BKGST,BTKH->BSKGH", probs, v, precision=precision).reshape(b, s, n, h)


def attend_cudnn(q, k, v, mask):
    """`attend` with cuDNN's fused kernel, which does not materialize the scores. NVIDIA GPUs, bfloat16 only."""
    return jax.nn.dot_product_attention(q, k, v, mask=mask[:, None], implementation="cudnn")


def attend_splash(
    q: Float[Array, "B S N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K H"],
    segments: Int[Array, "B S"],
    *,
    interpret: bool = False,
) -> Float[Array, "B S N H"]:
    """`attend` under `packed_causal(segments)` with JAX's block-sparse TPU kernel, on each device's rows and heads.

    The kernel does not materialize the scores and skips blocks above the diagonal.

    Args:
      interpret: runs the kernel in interpret mode, on any device; for tests.

    Raises:
      UserError: S is not a multiple of 128, the width of the kernel's blocks.
    """
    if q.shape[1] % LANES:
        raise UserError(
            f"model.attention='splash': rows of {q.shape[1]} tokens; the kernel works in blocks of {LANES}, "
            "choose such a row_tokens or attention='xla'"
        )
    mesh = jax.sharding.get_abstract_mesh()
    kernel = functools.partial(_splash_rows, interpret=interpret)
    if not set(ROWS) <= set(mesh.axis_names):
        return kernel(q, k, v, segments)
    heads = "tensor" if k.shape[2] % mesh.shape["tensor"] == 0 else None
    spec, rows = PartitionSpec(ROWS, None, heads, None), PartitionSpec(ROWS, None)
    # Pallas kernels are opaque to the partitioner, hence the explicit shard_map.
    return jax.shard_map(kernel, in_specs=(spec, spec, spec, rows), out_specs=spec, check_vma=False)(q, k, v, segments)


def _splash_rows(q, k, v, segments, *, interpret):
    s, n, h = q.shape[1:]
    block = next(b for b in (512, 256, LANES) if s % b == 0)
    sizes = splash_attention_kernel.BlockSizes(
        block_q=block, block_kv=block, block_kv_compute=block, block_q_dkv=block, block_kv_dkv=block,
        block_kv_dkv_compute=block, block_q_dq=block, block_kv_dq=block,
    )  # fmt: skip
    mask = splash_attention_mask.MultiHeadMask([splash_attention_mask.CausalMask((s, s))] * n)
    kernel = splash_attention_kernel.make_splash_mha_single_device(
        mask, block_sizes=sizes, residual_checkpoint_name=ATTENTION, interpret=interpret
    )

    def row(q, k, v, segments):
        heads_first = (x.transpose(1, 0, 2) for x in (q * h**-0.5, k, v))
        ids = splash_attention_kernel.SegmentIds(segments, segments)
        return kernel(*heads_first, segment_ids=ids).transpose(1, 0, 2)

    return jax.vmap(row)(q, k, v, segments).astype(q.dtype)


ATTENTIONS = {"xla": None, "cudnn": "gpu", "splash": "tpu"}
"""Implementation of the language model's attention over packed rows -> the only platform it runs on, None for any."""


def packed_attention(kind: str, segments: Int[Array, "B S"]) -> Callable:
    """Causal attention within each example of packed rows, with the implementation `kind`.

    Its output has the checkpoint name `ATTENTION` for remat policies; the TPU kernel names the residuals of its
    backward pass instead.

    Returns:
      a function (q, k, v) -> out.
    """
    if kind == "splash":
        return lambda q, k, v: attend_splash(q, k, v, segments)
    mask, attention = packed_causal(segments), attend_cudnn if kind == "cudnn" else attend
    return lambda q, k, v: checkpoint_name(attention(q, k, v, mask), ATTENTION)


def choose_attention(kind: str, platform: str, tokens: int, head_dim: int) -> str:
    """Resolves "auto": "splash" on TPUs if the shapes allow it, else "xla"; any other `kind` is returned as it is."""
    if kind != "auto":
        return kind
    return "splash" if platform == "tpu" and tokens % LANES == 0 and head_dim % LANES == 0 else "xla"


def check_attention(kind: str, compute_dtype: str, platform: str) -> None:
    """Raises UserError if the implementation `kind` cannot run."""
    required = ATTENTIONS[kind]
    if required not in (None, platform):
        raise UserError(
            f"model.attention={kind!r}: runs on {required.upper()}s, these devices are of kind {platform}; use 'xla'"
        )
    if kind == "cudnn" and compute_dtype != "bfloat16":
        raise UserError(f"model.attention='cudnn': needs compute_dtype='bfloat16', not {compute_dtype!r}")
