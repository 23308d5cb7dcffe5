"""Altered copies of the golden checkpoint, and our logits of a language model alone."""

import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from nlm_jax.convert import formats, io
from nlm_jax.nn.attention import attend
from nlm_jax.nn.masks import packed_causal


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Nothing here may ask the network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def altered(golden, tmp_path):
    """`altered(change)`: the golden directory after `change(tensors)`, which may also return a new config.json."""

    def make(change, source=golden / "model"):
        out = tmp_path / "altered"
        shutil.copytree(source, out)
        for path in (out, *out.iterdir()):
            path.chmod(0o755)
        _, metadata, _ = io.read_header(source / io.SINGLE)
        tensors = {name: np.array(view) for name, view in io.read_tensors(source).items()}
        change(tensors)
        entries = [io.Entry(n, t.shape, t.dtype, lambda t=t: iter((t,))) for n, t in tensors.items()]
        io.write_safetensors(out / io.SINGLE, entries, metadata)
        return out

    return make


@pytest.fixture
def open_golden(golden):
    """Opens the golden directory, or another path with its Q-Former and its language model."""

    def make(path=golden / "model", **options):
        options = {"qformer_config": golden / "qformer_config.json", "llm": golden / "llama"} | options
        return formats.open_checkpoint(path, "naturelm", **options)

    return make


@pytest.fixture(scope="session")
def llama_logits():
    """`llama_logits(llama, ids)`: f32[B, S, V] of token ids i32[B, S]."""

    def compute(llama, ids):
        ids = jnp.asarray(ids, jnp.int32)
        positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
        mask = packed_causal(jnp.ones_like(ids))

        def mix(cache, _layer, q, k, v):
            return attend(q, k, v, mask), cache

        hidden, _ = llama(llama.embed_tokens(ids, jnp.float32), positions, mix)
        return np.asarray(llama.logits(hidden))

    return compute


def same(a, b) -> bool:
    """Equality of bits, not of values."""
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.fixture(scope="session")
def identical():
    return same
