"""Beam search: the candidates of a step are `lax.top_k`'s; a least length as transformers' `generate` keeps it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nlm_jax.convert.formats import save
from nlm_jax.generate.beam import largest

LARGEST = jax.jit(largest, static_argnums=1)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (7, 7), (24, 5), (1000, 24), (1003, 1), (4099, 22)])
def test_the_largest_are_those_of_a_whole_sort(n, k):
    """Continuous values; values with many equals; and rows of -inf but for a few, as early end symbols leave them."""
    rng = np.random.default_rng(n + k)
    rows = np.stack([rng.normal(size=n), rng.integers(-3, 3, n), np.full(n, -np.inf), np.full(n, -np.inf)])
    rows[3, rng.integers(0, n, 3)] = 1.0
    rows[0, -1] = 100.0  # in a last block that is not full
    for found, expected in zip(LARGEST(jnp.asarray(rows), k), jax.lax.top_k(jnp.asarray(rows), k), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of transformers about its own parts
def test_least_lengths_are_those_of_transformers(tiny_model, asked, tmp_path):
    """The exported language model, from our vectors, one question at a time; ends are held back in some of them."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    save(tiny_model.checkpoint, tmp_path, "llama-merged")
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    print(theirs)
