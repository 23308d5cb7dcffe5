"""The TPU kernels of `gated_attention`: a head of one clip at a time, in fast memory.

Positions are the minor axis and scores are transposed (key before query): softmax and the gate's gradient then reduce
over sublanes, every array fills its lanes although a head has only 64 values, and no product needs a transposed result.
Positions are padded to a multiple of 128 lanes, in the kernel unless queries come in several blocks. Padded keys are
masked by the product of keys and queries itself: one more row of the keys is 0 or `MASKED`, the queries have 1 in it,
and a product over 64 of 128 rows has that row free.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Bool, Float

from nlm_jax.core.precision import matmul_precision
from nlm_jax.nn.attention import LANES, MASKED

MASK_ROWS = 16
"""Rows of the mask beneath the keys: a whole tile of bfloat16, of which the first has values."""
BLOCK = 512 * 512
"""Most scores that a step of the grid computes: 1 MiB in float32, of which a backward pass needs half a dozen."""
VMEM_BYTES = 32 * 2**20
"""Fast memory that the compiler may use; a chip has 64 MiB or more."""


def forward(
    bias: Float[Array, "N P P"],
    q: Float[Array, "B P N H"],
    k: Float[Array, "B P N H"],
    v: Float[Array, "B P N H"],
    gate: Float[Array, "B N P 1"],
    padding: Bool[Array, "B P"] | None,
    *,
    interpret: bool = False,
) -> tuple[Float[Array, "B P N H"], Float[Array, "B N P 1"]]:
    """Output and log-sum-exp of `gated_attention`.

    Args:
      interpret: runs the kernel in interpret mode, on any device; for tests.
    """
    b, p, n, h = q.shape
    arrays, grid, specs, width = _operands(bias, q, k, v, gate, padding)
    full = arrays[-1].shape[-1]
    out, lse = pl.pallas_call(
        functools.partial(_forward_kernel, precision=matmul_precision(q.dtype)),
        grid=grid,
        in_specs=specs["in"],
        out_specs=[specs["query"], specs["row"]],
        out_shape=[
            jax.ShapeDtypeStruct((b, n, h, width), q.dtype),
            jax.ShapeDtypeStruct((b, n, 1, full), jnp.float32),
        ],
        compiler_params=_params(("parallel", "arbitrary", "arbitrary")),
        cost_estimate=_cost(b, n, h, full, products=2, arrays=4, dtype=q.dtype),
        interpret=interpret,
        name="gated_attention_forward",
    )(*arrays)
    out, lse = _positions_first(out, p), lse[..., 0, :p, None]
    return (out if padding is None else jnp.where(padding.all(1)[:, None, None, None], 0, out)), lse


def backward(
    bias: Float[Array, "N P P"],
    q: Float[Array, "B P N H"],
    k: Float[Array, "B P N H"],
    v: Float[Array, "B P N H"],
    gate: Float[Array, "B N P 1"],
    padding: Bool[Array, "B P"] | None,
    lse: Float[Array, "B N P 1"],
    dout: Float[Array, "B P N H"],
    *,
    interpret: bool = False,
):
    """Gradients of `gated_attention`: of the bias, and (of q, k, v, gate).

    The grid runs over clips innermost, so that the gradient of a head's bias stays in fast memory while clips add to
    it. If queries come in several blocks, each block has its own part of the gradients of k and v; they are added
    afterwards.

    Args:
      lse: from `forward`.
      dout: gradient of the output.
      interpret: see `forward`.
    """
    b, p, n, h = q.shape
    if padding is not None:
        dout = jnp.where(padding.all(1)[:, None, None, None], 0, dout)
    arrays, grid, specs, width = _operands(bias, q, k, v, gate, padding)
    full, blocks = arrays[-1].shape[-1], grid[1]
    lse = jnp.pad(lse[..., 0], ((0, 0), (0, 0), (0, full - p)))[:, :, None]
    part = jax.ShapeDtypeStruct((blocks, b, n, h, width), q.dtype if blocks == 1 else jnp.float32)
    part_spec = pl.BlockSpec((1, 1, 1, h, width), lambda n, i, b: (i, b, n, 0, 0))
    dq, dk, dv, dgate, dbias = pl.pallas_call(
        functools.partial(_backward_kernel, scale=h**-0.5, precision=matmul_precision(q.dtype)),
        grid=grid,
        in_specs=[*specs["in"], specs["row"], specs["query"]],
        out_specs=[specs["query"], part_spec, part_spec, specs["row"], specs["bias"]],
        out_shape=[
            jax.ShapeDtypeStruct((b, n, h, width), q.dtype),
            part,
            part,
            jax.ShapeDtypeStruct((b, n, 1, full), jnp.float32),
            jax.ShapeDtypeStruct((n, full, full), jnp.float32),
        ],
        compiler_params=_params(("parallel", "arbitrary", "arbitrary")),
        cost_estimate=_cost(b, n, h, full, products=5, arrays=8, dtype=q.dtype),
        interpret=interpret,
        name="gated_attention_backward",
    )(*arrays, lse, _positions_last(dout, width))
    dk, dv = (x.sum(0).astype(q.dtype) for x in (dk, dv))
    gradients = (*(_positions_first(x, p) for x in (dq, dk, dv)), dgate[..., 0, :p, None])
    return dbias[:, :p, :p].transpose(0, 2, 1), gradients


def supported(h: int) -> bool:
    """Whether heads of size `h` are whole tiles, in every dtype."""
    return h % MASK_ROWS == 0


def _operands(bias, q, k, v, gate, padding):
    """Arrays, grid (heads, blocks of queries, clips), specs of the shared blocks, and positions of the values."""
    b, p, n, h = q.shape
    full = -(-p // LANES) * LANES
    fits = [size for size in range(LANES, full + 1, LANES) if full % size == 0 and size * full <= BLOCK]
    block = max(fits, default=LANES)
    # A block may be as wide as its array, whatever that is; a part of one must be whole lanes.
    width = p if block == full else full
    wide = min(block, width)
    masked = jnp.zeros((b, p), bool) if padding is None else padding
    masked = jnp.pad(masked, ((0, 0), (0, full - p)), constant_values=True)
    mask = jnp.where(masked, MASKED, 0.0).astype(k.dtype)
    mask = jnp.pad(mask[:, None], ((0, 0), (0, MASK_ROWS - 1), (0, 0)))
    gate = jnp.pad(gate[..., 0], ((0, 0), (0, 0), (0, full - p)))[:, :, None]
    bias = jnp.pad(bias.transpose(0, 2, 1), ((0, 0), (0, full - p), (0, full - p)))
    keys = pl.BlockSpec((1, 1, h, width), lambda n, i, b: (b, n, 0, 0))
    specs = {
        "query": pl.BlockSpec((1, 1, h, wide), lambda n, i, b: (b, n, 0, i)),
        "row": pl.BlockSpec((1, 1, 1, block), lambda n, i, b: (b, n, 0, i)),
        "bias": pl.BlockSpec((1, full, block), lambda n, i, b: (n, 0, i)),
    }
    mask_spec = pl.BlockSpec((1, MASK_ROWS, full), lambda n, i, b: (b, 0, 0))
    specs["in"] = [specs["query"], keys, keys, mask_spec, specs["row"], specs["bias"]]
    values = (_positions_last(x, width) for x in (q * h**-0.5, k, v))
    return (*values, mask, gate, bias), (n, full // block, b), specs, width


def _forward_kernel(q, k, v, mask, gate, bias, out, lse, *, precision):
    dot = functools.partial(jax.lax.dot_general, precision=precision, preferred_element_type=jnp.float32)
    q, k, v, gate, bias = _pad(q, gate), _pad(k, mask), _pad(v, mask), gate[0, 0], bias[0]
    scores = _scores(q, k, mask[0], gate, bias, dot)
    top = scores.max(0, keepdims=True)
    weights = jnp.exp(scores - top)
    total = weights.sum(0, keepdims=True)
    mixed = dot(v, weights.astype(v.dtype), (((1,), (0,)), ((), ())))
    _store(out.at[0, 0], mixed / total)
    lse[0, 0] = top + jnp.log(total)


def _backward_kernel(q, k, v, mask, gate, bias, lse, dout, dq, dk, dv, dgate, dbias, *, scale, precision):
    dot = functools.partial(jax.lax.dot_general, precision=precision, preferred_element_type=jnp.float32)
    q, k, v, dout, gate, bias = _pad(q, gate), _pad(k, mask), _pad(v, mask), _pad(dout, gate), gate[0, 0], bias[0]
    over_queries = (((1,), (1,)), ((), ()))
    probs = jnp.exp(_scores(q, k, mask[0], gate, bias, dot) - lse[0, 0])
    _store(dv.at[0, 0, 0], dot(dout, probs.astype(v.dtype), over_queries))
    dprobs = dot(v, dout, (((0,), (0,)), ((), ())))
    dscores = probs * (dprobs - (probs * dprobs).sum(0, keepdims=True))
    narrow = dscores.astype(q.dtype)
    _store(dq.at[0, 0], dot(k, narrow, (((1,), (0,)), ((), ()))) * scale)
    _store(dk.at[0, 0, 0], dot(q, narrow, over_queries))  # q is scaled already
    dgate[0, 0] = (dscores * bias).sum(0, keepdims=True)

    @pl.when(pl.program_id(2) == 0)
    def _():
        dbias[0] = jnp.zeros_like(dbias[0])

    dbias[0] += dscores * gate


def _scores(q, k, mask, gate, bias, dot):
    """Masked scores, key before query."""
    keys, queries = jnp.concatenate([k, mask]), jnp.concatenate([q, jnp.ones((MASK_ROWS, q.shape[1]), q.dtype)])
    return dot(keys, queries, (((0,), (0,)), ((), ()))) + gate * bias


def _pad(values, like):
    """The block of values [H, positions], with zeros up to the positions of `like`."""
    block = values[0, 0]
    return jnp.pad(block, ((0, 0), (0, like.shape[-1] - block.shape[1])))


def _store(ref, value):
    ref[...] = value[:, : ref.shape[1]].astype(ref.dtype)


def _positions_last(x, width):
    """[B, P, N, H] -> [B, N, H, width]."""
    return jnp.pad(x.transpose(0, 2, 3, 1), ((0, 0), (0, 0), (0, 0), (0, width - x.shape[1])))


def _positions_first(x, p):
    """[B, N, H, width] -> [B, P, N, H]."""
    return x[..., :p].transpose(0, 3, 1, 2)


def _params(semantics):
    return pltpu.CompilerParams(dimension_semantics=semantics, vmem_limit_bytes=VMEM_BYTES)


def _cost(b, n, h, full, *, products, arrays, dtype):
    """FLOPs of products, exponentials, and bytes of `arrays` arrays of values and of the bias, for XLA's scheduler."""
    return pl.CostEstimate(
        flops=products * 2 * b * n * h * full**2,
        transcendentals=b * n * full**2,
        bytes_accessed=arrays * math.prod((b, n, h, full)) * jnp.dtype(dtype).itemsize + 2 * 4 * n * full**2,
    )
