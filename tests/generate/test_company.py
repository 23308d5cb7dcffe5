"""With slots held in reserve an answer depends in no bit on what else is asked, in bfloat16 too."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_training as tiny

from nlm_jax import testing
from nlm_jax.convert.checkpoint import Checkpoint
from nlm_jax.core.errors import UserError
from nlm_jax.generate import engine
from nlm_jax.generate.api import NatureLM
from nlm_jax.generate.audio_cache import Encodings
from nlm_jax.generate.decode import decode, prefill_rows


@pytest.fixture(scope="module")
def model():
    cfg = dataclasses.replace(testing.tiny_config(), compute_dtype="bfloat16")
    return NatureLM(Checkpoint(cfg, jax.tree.map(jnp.asarray, tiny.params(cfg))), testing.tokenizer())


@pytest.fixture
def watched(monkeypatch):
    """Shapes of what the programs are given."""
    shapes = set()

    def prefills(graphdef, state, prompts, arrays, *, config):
        shapes.add(("prefill", prompts.tokens.shape, prompts.vectors.shape))
        return prefill_rows(graphdef, state, prompts, arrays, config=config)

    def decodes(graphdef, state, rows, active, steps, enough, *, config):
        shapes.add(("decode", rows.cache.k.shape, rows.ids.shape))
        return decode(graphdef, state, rows, active, steps, enough, config=config)

    monkeypatch.setattr(engine, "prefill_rows", prefills)
    monkeypatch.setattr(engine, "decode", decodes)
    return shapes


def test_answers_do_not_depend_on_the_batch(model, watched, clips_and_queries):
    """One question alone, in every row, next to longer ones and next to several of its length: the same bits."""
    audios, queries = clips_and_queries
    options = {"max_new_tokens": 24, "min_length": 24}

    def run(questions):
        model.encodings = Encodings()
        engine_ = model.engine(slots=5, reserve=320)
        futures = [engine_.submit(audios[i], query, **options) for i, query in questions]
        engine_.run()
        cache = np.asarray(jax.lax.bitcast_convert_type(engine_.rows.cache.k, jnp.uint16))
        return [f.result().ids for f in futures], cache

    long = "Say at length what you hear in this recording, and who it is. " * 3
    alone, cache = run([(0, queries[0])])
    seen = set(watched)
    for neighbors in ([(1, queries[1])], [(1, long)], [(i, queries[i]) for i in (1, 2, 3, 4)]):
        answers, other = run([(0, queries[0]), *neighbors])
        assert answers[0] == alone[0]
        np.testing.assert_array_equal(cache[0], other[0])  # each key of the question, from the prompt to the last token
        answers, other = run([*neighbors, (0, queries[0])])
        assert answers[-1] == alone[0]
        np.testing.assert_array_equal(cache[0], other[len(neighbors)])
    assert {s for s in watched if s[0] == "decode"} == {s for s in seen if s[0] == "decode"}
    assert all(shape[1][0] == 1 for shape in watched if shape[0] == "prefill")


def test_a_question_that_needs_more_than_the_reserve(model, clips_and_queries):
    engine_ = model.engine(slots=1, reserve=64)
    with pytest.raises(UserError, match="tokens with the audio and the longest answer; this engine has 64"):
        engine_.submit(clips_and_queries[0][0], clips_and_queries[1][0], max_new_tokens=100)
