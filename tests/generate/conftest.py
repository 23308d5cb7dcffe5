"""A model small enough to answer in milliseconds, whose random answers now and then come to an end."""

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import tiny_training as tiny

from nlm_jax import testing
from nlm_jax.convert.checkpoint import Checkpoint
from nlm_jax.generate.api import NatureLM

HEAD = "llama/lm_head/kernel"


@pytest.fixture(scope="session")
def make_tiny():
    """`make_tiny(mesh=None)`: the facade around it, on a mesh if one is given."""
    import jax

    from nlm_jax.convert.leaves import abstract
    from nlm_jax.mesh.rules import rules

    tokenizer, cfg = testing.tokenizer(), testing.tiny_config()
    leaves = {path: np.array(leaf) for path, leaf in tiny.params(cfg).items()}
    leaves[HEAD][:, tokenizer.eos_ids] *= 2.5

    def make(mesh=None) -> NatureLM:
        placed = {path: jnp.asarray(leaf) for path, leaf in leaves.items()}
        if mesh is not None:
            targets = abstract(cfg, mesh, rules())
            placed = {path: jax.device_put(leaf, targets[path].sharding) for path, leaf in leaves.items()}
        return NatureLM(Checkpoint(cfg, placed), tokenizer, mesh)

    return make


@pytest.fixture(scope="session")
def tiny_model(make_tiny) -> NatureLM:
    return make_tiny()


@pytest.fixture(scope="session")
def clips_and_queries():
    """Seven clips and questions of different length, all within one bucket; two ask about one clip."""
    rng = np.random.default_rng(3)
    waves = [rng.uniform(-0.5, 0.5, 16_000).astype(np.float32) for _ in range(6)]
    queries = ["What is it?", "Which bird sings?", "Name it.", "Say what.", "Why?", "A frog?", "Who calls?"]
    return [*waves, waves[0]], queries


@pytest.fixture
def unchecked():
    """Annotations are not enforced, as outside of the tests, so that invalid values reach the checks of the package."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
