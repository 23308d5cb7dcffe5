"""On eight devices, rows over data, heads and MLPs over tensor: the answers and scores of one device."""

import numpy as np
import pytest

from nlm_jax.mesh.build import make_mesh

LIMITS = [2, 12, 3, 9, 1, 12, 4]


@pytest.fixture(scope="module")
def sharded(make_tiny):
    return make_tiny(make_mesh(data=4, fsdp=1, tensor=2))


def test_engine_and_sampling(sharded, tiny_model, clips_and_queries):
    """Seven requests in four rows, so that rows are reused."""
    options = {
        "max_new_tokens": LIMITS,
        "temperature": [0, 1, 0, 1.5, 0, 0, 1],
        "seed": list(range(7)),
        "batch_size": 4,
    }
    expected = tiny_model.generate(*clips_and_queries, return_ids=True, **options)
    assert sharded.generate(*clips_and_queries, return_ids=True, **options) == expected
    engine = sharded.engine(slots=3)
    assert engine.slots == 4
    futures = [engine.submit(a, q, max_new_tokens=n) for a, q, n in zip(*clips_and_queries, LIMITS, strict=True)]
    engine.step()
    cache = engine.rows.cache.k
    rows, layers, heads, *rest = cache.shape
    assert cache.sharding.shard_shape(cache.shape) == (rows // 4, layers, heads // 2, *rest)
    engine.run()
    greedy = tiny_model.generate(*clips_and_queries, LIMITS, batch_size=4, return_ids=True)
    assert [f.result().ids for f in futures] == greedy


def test_beams(sharded, tiny_model, clips_and_queries):
    options = {"num_beams": 2, "batch_size": 4, "return_ids": True}
    assert sharded.generate(*clips_and_queries, LIMITS, **options) == tiny_model.generate(
        *clips_and_queries, LIMITS, **options
    )


def test_scores(sharded, tiny_model, clips_and_queries):
    labels = ["a wren", "None", "Turdus merula"]
    audios, queries = clips_and_queries[0][:3], clips_and_queries[1][:3]
    for ours, alone in zip(
        sharded.score(audios, queries, labels, batch_size=4),
        tiny_model.score(audios, queries, labels, batch_size=4),
        strict=True,
    ):
        np.testing.assert_allclose(ours, alone, atol=1e-5)
