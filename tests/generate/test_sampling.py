"""Sampling: the filters of transformers, the distribution of samples; options, and messages about invalid ones."""

import dataclasses
import functools
import typing

import beartype.door
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nlm_jax.core.errors import UserError
from nlm_jax.generate import sampling
from nlm_jax.generate.api import NatureLM
from nlm_jax.generate.decode_state import DecodeConfig, SamplingArrays, fresh
from nlm_jax.generate.options import BOUNDS, GenerationOptions, OptionFields, each
from nlm_jax.nn.cache import empty
from nlm_jax.testing import tiny_config

CHOOSE = jax.jit(sampling.choose)


@pytest.mark.parametrize(("k", "p", "t"), [(0, 1.0, 0.5), (5, 1.0, 1.0), (0, 0.7, 1.3), (8, 0.5, 0.7), (1, 0.2, 1.0)])
def test_filters_are_those_of_transformers(k, p, t):
    torch = pytest.importorskip("torch")
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    scores = np.random.default_rng(0).normal(0, 3, (16, 60)).astype(np.float32)
    expected = TemperatureLogitsWarper(t)(None, torch.tensor(scores))
    if k:
        expected = TopKLogitsWarper(k)(None, expected)
    if p < 1:
        expected = TopPLogitsWarper(p)(None, expected)
    ours = sampling.top_k_top_p(jnp.asarray(scores) / t, jnp.full(16, k), jnp.full(16, p, jnp.float32))
    np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(expected.numpy()))
    np.testing.assert_allclose(jax.nn.softmax(ours), torch.softmax(expected, -1).numpy(), atol=1e-6)


def rows_of(options: list[GenerationOptions], vocab: int, ends=(0,), beams: int = 1):
    """Rows with a prompt of one token, for a vocabulary of `vocab`."""
    cfg = tiny_config(vocab)
    sampling = jax.tree.map(jnp.asarray, SamplingArrays.from_options(options, ends, vocab, [-1] * len(options)))
    cache = empty(1, len(options), 1, 1, 1, jnp.float32)
    how = DecodeConfig(ends, vocab - 1, beams)
    return fresh(cfg, how, cache, jnp.ones((len(options), 1), bool), sampling, 4), how


def test_samples_follow_the_filtered_distribution():
    """4000 seeds of three settings: the counts are within 5 standard deviations of the filtered probabilities."""
    logits, n = np.array([0.0, 1.0, 2.0, 0.5, -1.0], np.float32), 4000
    for options in ({"temperature": 1.0}, {"temperature": 0.6, "top_k": 3}, {"temperature": 2.0, "top_p": 0.8}):
        rows, _ = rows_of([GenerationOptions(seed=s, **options) for s in range(n)], 5)
        sampled = np.asarray(CHOOSE(rows, jnp.tile(logits, (n, 1, 1))).ids[:, 0, 0])
        o = GenerationOptions(**options)
        filtered = sampling.top_k_top_p(
            jnp.asarray(logits)[None] / o.temperature, jnp.array([o.top_k]), jnp.array([o.top_p])
        )
        expected = np.asarray(jax.nn.softmax(filtered))[0]
        counts = np.bincount(sampled, minlength=5)
        assert (np.abs(counts - n * expected) <= 5 * np.sqrt(n * expected * (1 - expected))).all(), (counts, expected)
        assert (counts[expected == 0] == 0).all()
        assert (expected == 0).any() == (len(options) > 1)


def test_a_sample_depends_on_the_seed_and_step_of_its_row():
    logits = jnp.zeros((3, 1, 1000))
    rows, _ = rows_of([GenerationOptions(seed=s, temperature=1.0) for s in (7, 8, 7)], 1000)
    first = CHOOSE(rows, logits)
    second = CHOOSE(first, logits)
    ids = np.asarray(second.ids[:, 0, :2])
    assert (ids[0] == ids[2]).all()
    assert (ids[0] != ids[1]).any()
    assert ids[0, 0] != ids[0, 1]


def test_a_tiny_temperature_is_greedy():
    rows, _ = rows_of([GenerationOptions(temperature=1e-40), GenerationOptions(temperature=0.0)], 5)
    assert CHOOSE(rows, jnp.tile(jnp.array([1.0, 1.5, 3.0, 2.9, -1.0]), (2, 1, 1))).ids[:, 0, 0].tolist() == [2, 2]


def test_answers_depend_only_on_their_own_seed(tiny_model, clips_and_queries):
    audios, queries = clips_and_queries
    how = {"max_new_tokens": 8, "temperature": 1.5, "return_ids": True}
    seeds = list(range(7))
    together = tiny_model.generate(audios, queries, seed=seeds, batch_size=4, **how)
    for i in (0, 4):
        assert tiny_model.generate([audios[i]], [queries[i]], seed=seeds[i], **how) == [together[i]]
    other = tiny_model.generate(audios, queries, seed=[s + 100 for s in seeds], batch_size=4, **how)
    assert all(a != b for a, b in zip(together, other, strict=True))
    same = tiny_model.generate([audios[0]] * 2, [queries[0]] * 2, seed=5, **how)
    assert same[0] == same[1]
    assert tiny_model.generate(audios, queries, seed=seeds, batch_size=4, **how | {"top_k": 1}) == tiny_model.generate(
        audios, queries, **how | {"temperature": 0.0}
    )


def test_no_end_before_the_minimum_length(tiny_model, clips_and_queries):
    """Greedy, sampled and with beams; the first tokens are the best except for end symbols."""
    audios, queries = clips_and_queries
    ends = tiny_model.tokenizer.eos_ids
    shorter = 0
    for options in ({}, {"temperature": 1.0}, {"num_beams": 2}):
        free = tiny_model.generate(audios, queries, 8, return_ids=True, **options)
        least = tiny_model.generate(audios, queries, 8, min_length=5, return_ids=True, **options)
        for a, b in zip(free, least, strict=True):
            shorter += len(a) <= 5
            assert not set(b[:5]) & set(ends)
            assert len(b) > 5
    assert shorter


def test_minimum_length_takes_the_best_token_that_is_no_end_symbol():
    rows, _ = rows_of([GenerationOptions(min_length=1), GenerationOptions()], 5)
    ids = CHOOSE(rows, jnp.tile(jnp.array([5.0, 1, 3, 2, 0]), (2, 1, 1)))
    assert ids.ids[:, 0, 0].tolist() == [2, 0]
    assert ids.finished.tolist() == [False, True]


def test_each_request_has_its_own_limit(tiny_model, clips_and_queries):
    audios, queries = clips_and_queries
    limits = [1, 9, 3, 2, 12, 4, 6]
    least = [n // 2 for n in limits]
    for beams in (1, 2):
        ids = tiny_model.generate(audios, queries, limits, beams, min_length=least, batch_size=4, return_ids=True)
        assert all(low < len(row) <= limit for row, limit, low in zip(ids, limits, least, strict=True))
        assert ids[1] == tiny_model.generate(audios[1:2], queries[1:2], 9, beams, min_length=4, return_ids=True)[0]


def test_stop_ids_and_texts(tiny_model, clips_and_queries):
    audios, queries = clips_and_queries
    how = {"max_new_tokens": 10, "min_length": 10}
    ids = tiny_model.generate(audios, queries, return_ids=True, **how)[0]
    text = tiny_model.tokenizer.decode(ids)
    one = ids[1]
    first = ids.index(one)
    cut = how | {"min_length": 0, "stop": one}
    assert tiny_model.generate(audios[:1], queries[:1], return_ids=True, **cut)[0] == ids[: first + 1]
    assert tiny_model.generate(audios[:1], queries[:1], **cut)[0] == tiny_model.tokenizer.decode(ids[:first])
    part = text[len(text) // 2 :][:2]
    stopped = tiny_model.generate(audios[:1], queries[:1], stop=["never there", part], **how)[0]
    assert stopped == text[: text.index(part)]
    beams = tiny_model.generate(audios[:1], queries[:1], num_beams=2, **how)[0]
    part = beams[len(beams) // 2 :][:2]
    assert tiny_model.generate(audios[:1], queries[:1], num_beams=2, stop=part, **how)[0] == beams[: beams.index(part)]


BAD = [
    ({"temperature": -1.0}, "temperature=-1.0: must be 0"),
    ({"temperature": float("nan")}, "temperature=nan: must be a number"),
    ({"top_k": -1}, "top_k=-1: must be 0"),
    ({"top_p": 0.0}, "top_p=0.0: must be above 0"),
    ({"top_p": 1.1}, "top_p=1.1: must be above 0"),
    ({"seed": -1}, "seed=-1: must be 0 or more"),
    ({"seed": 2**32}, "below 2"),
    ({"seed": [1, 2]}, "seed: 2 values for 1 queries"),
    ({"min_length": -1}, "min_length=-1: must be 0 or more"),
    ({"min_length": 9, "max_new_tokens": 8}, "min_length=9: is above max_new_tokens=8"),
    ({"max_new_tokens": 0}, "max_new_tokens=0: must be at least 1"),
    ({"max_new_tokens": [3, 4]}, "max_new_tokens: 2 values for 1 queries"),
    ({"max_new_tokens": True}, "max_new_tokens=True: must be a whole number"),
    ({"repetition_penalty": 0.0}, "repetition_penalty=0.0: must be above 0"),
    ({"length_penalty": float("inf")}, "length_penalty=inf: must be a number"),
    ({"num_beams": 0}, "num_beams=0: must be at least 1"),
    ({"num_beams": 2, "temperature": 1.0}, "beam search draws nothing"),
    ({"batch_size": 0}, "batch_size=0: must be at least 1"),
    ({"stop": ""}, "stop='': give token ids or texts"),
    ({"stop": -4}, "stop=-4: a token id is 0 or more"),
    ({"temperature": "hot"}, "temperature='hot': must be a number"),
    ({"top_k": 1.5}, "top_k=1.5: must be a whole number"),
    ({"stop": [1.5]}, "stop=1.5: give token ids or texts"),
    ({"stop": 3.5}, "stop=3.5: give a token id or a text"),
    ({"stop": 10**6}, "stop=1000000: the vocabulary has 518 tokens"),
    ({"stop": list(range(9))}, "stop: 9 token ids; at most 8"),
    ({"stop": 2**31}, "stop=2147483648: a token id"),
    ({"top_k": 2**31}, "top_k=2147483648: must be 0 .all tokens. or more and below"),
    ({"top_k": 2**63}, "top_k=9223372036854775808: must be 0"),
    ({"top_k": 10**4000}, "top_k=<a whole number of 13288 bits>: must be 0"),
    ({"seed": 10**4000}, "seed=<a whole number"),
    ({"max_new_tokens": 2**31}, "max_new_tokens=2147483648: must be at least 1 and at most 131072"),
    ({"temperature": 1e39}, "temperature=1e.39: must be 0"),
    ({"temperature": 10**4000}, "temperature=<a whole number"),
    ({"temperature": float("inf")}, "temperature=inf: must be a number"),
    ({"temperature": True}, "temperature=True: must be a number"),
    ({"top_p": float("nan")}, "top_p=nan: must be a number"),
    ({"repetition_penalty": 1e-300}, "repetition_penalty=1e-300: must be above 0"),
    ({"repetition_penalty": 1e38}, "repetition_penalty=1e.38: must be above 0, from 0.01 to 100"),
    ({"length_penalty": 1e4}, "length_penalty=10000.0: must be between -5 and 5"),
    ({"num_beams": 10**6}, "num_beams=1000000: must be at most 64"),
]


def test_every_bound_fits_the_dtype_it_is_cast_to():
    """Both ends of every bound are exact and finite in their dtype; just past them is refused."""
    for name, (least, most, _) in BOUNDS.items():
        for value in (least, most):
            options = GenerationOptions(**({"max_new_tokens": 131_072} | {name: value}))
            cast = getattr(SamplingArrays.from_options([options], (0,), 10, [-1]), name_of(name))
            assert np.isfinite(cast).all()
            if isinstance(value, int):
                assert cast.tolist() == [value]
        for value in (least - 1, most + 1, -(10**400), 10**400):
            with pytest.raises(UserError, match=f"{name}="):
                GenerationOptions(**({"max_new_tokens": 131_072} | {name: value}))


def name_of(option: str) -> str:
    """The field of `SamplingArrays` for an option."""
    return {"max_new_tokens": "limit", "min_length": "minimum"}.get(option, option)


@pytest.mark.parametrize("top_p", [5e-324, 1e-300, 1e-45, 1.2e-38])
@pytest.mark.parametrize("temperature", [5e-324, 1e-45, 1.0, 1e6])
def test_the_best_token_always_passes_the_filters(top_p, temperature):
    """With a tiny `top_p`, which float32 may round to 0, the most likely token is sampled, and only that."""
    logits = np.array([-3.0, 5.0, 1.0, -1e30], np.float32)
    rows, _ = rows_of([GenerationOptions(top_p=top_p, temperature=temperature, seed=s) for s in range(50)], 4)
    assert set(np.asarray(CHOOSE(rows, jnp.tile(logits, (50, 1, 1))).ids[:, 0, 0]).tolist()) == {1}


@pytest.mark.parametrize(("options", "message"), BAD, ids=[str(b[0])[:40] for b in BAD])
def test_messages(tiny_model, clips_and_queries, unchecked, options, message):
    with pytest.raises(UserError, match=message):
        tiny_model.generate(clips_and_queries[0][:1], clips_and_queries[1][:1], **options)


def test_options_as_one_object(tiny_model, clips_and_queries, unchecked):
    """The same answers as by keywords; a keyword replaces the field, with one value or one per query."""
    audios, queries = clips_and_queries
    options = GenerationOptions(max_new_tokens=6, temperature=1.5, seed=4, top_k=50)
    fields = {"max_new_tokens": 6, "temperature": 1.5, "seed": 4, "top_k": 50}
    generate = functools.partial(tiny_model.generate, audios, queries, return_ids=True)
    assert generate(options=options) == generate(**fields)
    seeds = list(range(7))
    assert generate(options=options, seed=seeds) == generate(**fields | {"seed": seeds})
    assert generate(options=options, seed=seeds) != generate(options=options)
    assert generate(options=options, temperature=0.0) == generate(6) != generate(options=options)
    text = tiny_model.generate(audios[:1], queries[:1], options=options)[0]
    assert "".join(tiny_model.stream(audios[0], queries[0], options)) == text
    with tiny_model.engine(slots=1) as engine:
        assert engine.submit(audios[0], queries[0], options, seed=4).result().text == text
        assert list(engine.stream(audios[0], queries[0], options, max_new_tokens=1)) != text
    with pytest.raises(UserError, match=r"options=\{'seed': 4\}: give GenerationOptions, or its fields by name"):
        generate(options={"seed": 4})
    with pytest.raises(UserError, match="min_length=7: is above max_new_tokens=6"):
        generate(options=options, min_length=7)


def test_hints_are_those_of_the_fields():
    """Every field is a keyword of `generate`, with a type that admits the field's own type and a list of it."""
    hints = typing.get_type_hints(NatureLM.generate) | typing.get_type_hints(OptionFields)
    for field in dataclasses.fields(GenerationOptions):
        assert field.type is not typing.Any
        beartype.door.die_if_unbearable(field.default, field.type)
        beartype.door.die_if_unbearable(field.default, hints[field.name])
        beartype.door.die_if_unbearable([1] * 2 if field.name == "stop" else [field.default] * 2, hints[field.name])
        assert not beartype.door.is_bearable(object(), hints[field.name])


def test_numpy_values():
    options = each(
        2, max_new_tokens=np.int64(4), temperature=np.array([0.5, 1.0]), seed=np.arange(2), top_k=np.array(3)
    )
    assert [dataclasses.astuple(o)[:6] for o in options] == [(4, 0, 0.5, 3, 1.0, 0), (4, 0, 1.0, 3, 1.0, 1)]
    assert len(each(3)) == 3
    with pytest.raises(UserError, match="heat: no such option of generation"):
        each(1, heat=1)
