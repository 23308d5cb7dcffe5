"""What a BEATs layer saves for its backward pass."""

import re

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import print_saved_residuals

from nlm_jax.models.beats.config import BeatsConfig
from nlm_jax.models.beats.layer import BeatsLayer


def test_a_layer_saves_no_intermediate_of_gelu_layer_norm_and_attention(capsys):
    cfg = BeatsConfig(width=24, layers=1, heads=3, mlp=80)
    graphdef, state = nnx.split(BeatsLayer(cfg, rngs=nnx.Rngs(0)))
    x, bias = jax.ShapeDtypeStruct((2, 40, 24), jnp.float32), jax.ShapeDtypeStruct((3, 40, 40), jnp.float32)
    print_saved_residuals(lambda state, x, bias: nnx.merge(graphdef, state)(x, bias, None), state, x, bias)
    shapes = re.findall(r"^f32\[(\S*)\] (?!from)", capsys.readouterr().out, re.MULTILINE)
    of_width = [shape for shape in shapes if shape in ("2,40,24", "2,40,3,8")]
    # q, k, v, the mixed values, the inputs of both norms, and the first norm's output
    assert len(of_width) == 7
    assert shapes.count("2,40,80") == 1  # the input of GELU
    assert "2,3,40,40" not in shapes
