"""BEATs' attention with a gated position bias as one operation with its own backward pass."""

import math

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float

from nlm_jax.core.precision import matmul_precision
from nlm_jax.mesh.axes import ROWS
from nlm_jax.nn import gated_attention_tpu
from nlm_jax.nn.attention import MASKED
from nlm_jax.nn.remat import ATTENTION


def gated_attention(
    q: Float[Array, "B P N H"],
    k: Float[Array, "B P N H"],
    v: Float[Array, "B P N H"],
    gate: Float[Array, "B N P 1"],
    bias: Float[Array, "N P P"],
    padding: Bool[Array, "B P"] | None = None,
) -> Float[Array, "B P N H"]:
    """softmax(q k / sqrt(H) + gate * bias) v over the keys that are not padding, softmax in float32.

    The forward pass saves its arguments and the logarithm of the softmax's sum, which is named `ATTENTION` for remat
    policies, as the output is; the backward pass recomputes the probabilities. CPUs run clip by clip, because the
    scores of a batch exceed their caches; TPUs have kernels. On a mesh each device computes its own clips and heads.

    Args:
      gate: factor of the bias for each query, float32.
      bias: position bias before gating, query before key, float32.
      padding: True at keys that are masked. A clip that is padding everywhere has output and gradients 0.

    Returns:
      the mixed values, in the dtype of `q`.

    Source: BEATs backbone.py `MultiheadAttention`. The reference divides scores by 32 before subtracting their maximum
    and multiplies after, which protects float16 and cancels here.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not set(ROWS) <= set(mesh.axis_names):
        return _attend(q, k, v, gate, bias, padding)
    rows = ROWS if q.shape[0] % math.prod(mesh.shape[axis] for axis in ROWS) == 0 else None
    heads = "tensor" if q.shape[2] % mesh.shape["tensor"] == 0 else None
    values = PartitionSpec(rows, None, heads, None)
    specs = (*[values] * 3, PartitionSpec(rows, heads, None, None), PartitionSpec(heads, None, None))
    specs += (None if padding is None else PartitionSpec(rows, None),)
    # Explicit, because a loop over clips that are sharded would gather them.
    return jax.shard_map(_attend, in_specs=specs, out_specs=values, check_vma=False)(q, k, v, gate, bias, padding)


@jax.custom_vjp
def _attend(q, k, v, gate, bias, padding):
    return _forward(q, k, v, gate, bias, padding)[0]


def _forward(q, k, v, gate, bias, padding):
    clips = (q, k, v, gate, padding)
    tpu = {"tpu": gated_attention_tpu.forward} if gated_attention_tpu.supported(q.shape[-1]) else {}
    out, lse = jax.lax.platform_dependent(bias, *clips, cpu=_map_forward, default=_vmap_forward, **tpu)
    out, lse = checkpoint_name(out, ATTENTION), checkpoint_name(lse, ATTENTION)
    return out, (q, k, v, gate, bias, padding, lse)


def _backward(residuals, dout):
    q, k, v, gate, bias, padding, lse = residuals
    clips = (q, k, v, gate, padding, lse, dout)
    tpu = {"tpu": gated_attention_tpu.backward} if gated_attention_tpu.supported(q.shape[-1]) else {}
    dbias, gradients = jax.lax.platform_dependent(bias, *clips, cpu=_map_backward, default=_vmap_backward, **tpu)
    return *gradients, dbias, None


_attend.defvjp(_forward, _backward)


def _forward_clip(bias, q, k, v, gate, padding):
    """Output [P, N, H] and log-sum-exp f32[N, P, 1] of one clip."""
    scores = _scores(bias, q, k, gate, padding)
    top = scores.max(-1, keepdims=True)
    weights = _unmasked(jnp.exp(scores - top), padding)
    total = jnp.maximum(weights.sum(-1, keepdims=True), jnp.finfo(jnp.float32).tiny)
    mixed = _einsum("NPS,SNH->PNH", weights.astype(v.dtype), v)
    return (mixed / total.transpose(1, 0, 2)).astype(q.dtype), top + jnp.log(total)


def _backward_clip(bias, q, k, v, gate, padding, lse, dout):
    """Gradients of the bias, and of q, k, v and the gate, of one clip."""
    probs = _unmasked(jnp.exp(_scores(bias, q, k, gate, padding) - lse), padding)
    dv = _einsum("NPS,PNH->SNH", probs.astype(q.dtype), dout)
    dprobs = _einsum("PNH,SNH->NPS", dout, v)
    dscores = probs * (dprobs - (probs * dprobs).sum(-1, keepdims=True))
    narrow, scale = dscores.astype(q.dtype), q.shape[-1] ** -0.5
    dq, dk = _einsum("NPS,SNH->PNH", narrow, k) * scale, _einsum("NPS,PNH->SNH", narrow, q) * scale
    dgate = (dscores * bias).sum(-1, keepdims=True)
    return dscores * gate, (*(x.astype(q.dtype) for x in (dq, dk, dv)), dgate)


def _scores(bias, q, k, gate, padding):
    scores = _einsum("PNH,SNH->NPS", q * q.shape[-1] ** -0.5, k) + gate * bias
    return scores if padding is None else jnp.where(padding, MASKED, scores)


def _unmasked(weights, padding):
    return weights if padding is None else jnp.where(padding, 0.0, weights)


def _einsum(formula, x, y):
    return jnp.einsum(formula, x, y, precision=matmul_precision(x.dtype), preferred_element_type=jnp.float32)


def _vmap_forward(bias, *clips):
    return jax.vmap(lambda clip: _forward_clip(bias, *clip))(clips)


def _vmap_backward(bias, *clips):
    dbias, gradients = jax.vmap(lambda clip: _backward_clip(bias, *clip))(clips)
    return dbias.sum(0), gradients


def _map_forward(bias, *clips):
    return jax.lax.map(lambda clip: _forward_clip(bias, *clip), clips)


def _map_backward(bias, *clips):
    def add(dbias, clip):
        added, gradients = _backward_clip(bias, *clip)
        return dbias + added, gradients

    return jax.lax.scan(add, jnp.zeros_like(bias), clips)
