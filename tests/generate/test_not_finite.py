"""Masked memory does not affect an answer, even if it is NaN; and answers that are not finite."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
import tiny_training as tiny

from nlm_jax import testing
from nlm_jax.audio import wave
from nlm_jax.convert.checkpoint import Checkpoint
from nlm_jax.core.errors import NotFinite, UserError
from nlm_jax.evaluate import ranking
from nlm_jax.generate import audio_cache, infer_command
from nlm_jax.generate.api import NatureLM
from nlm_jax.generate.audio_cache import Encodings
from nlm_jax.generate.audio_inputs import clips_of
from nlm_jax.generate.options import GenerationOptions
from nlm_jax.generate.prompts import prompt
from nlm_jax.generate.recording_windows import Window
from nlm_jax.generate.request import NO_ANSWER, Request
from nlm_jax.nn.cache import KVCache, attend_cached

KINDS = {
    "greedy": {},
    "drawn": {"temperature": 1.3, "top_k": 50, "top_p": 0.95, "seed": 4},
    "beams": {"num_beams": 2},
    "cold": {"temperature": 1e-40, "top_p": 1e-45},
}


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def model(request):
    """A tiny model with two layers: in a single one, the text after a recording has finite keys even if that is NaN."""
    cfg = testing.tiny_config()
    cfg = dataclasses.replace(cfg, llama=dataclasses.replace(cfg.llama, layers=2), compute_dtype=request.param)
    return NatureLM(Checkpoint(cfg, jax.tree.map(jnp.asarray, tiny.params(cfg))), testing.tokenizer())


def poisoned(model, query="Whatever?", samples=16_000, key=0) -> Request:
    """A valid request whose recording is NaN when it is read: its keys and values are NaN."""
    clips_and_queries = prompt(
        model.tokenizer, clips_of(np.zeros(samples, np.float32), model.config.audio), query, model.config
    )
    wave = np.full(samples, np.nan, np.float32)
    sounds = tuple(
        dataclasses.replace(s, key=("NaN", key, i), read=lambda: wave) for i, s in enumerate(clips_and_queries.sounds)
    )
    options = GenerationOptions(max_new_tokens=12, min_length=12)
    return Request(dataclasses.replace(clips_and_queries, sounds=sounds), options, model.tokenizer)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_in_and_next_to_a_poisoned_row(model, clips_and_queries, kind):
    audios, queries = clips_and_queries
    options = {"max_new_tokens": 8, "min_length": 6} | KINDS[kind]
    beams = options.pop("num_beams", 1)

    def answers(poison: bool):
        engine = model.engine(slots=2, num_beams=beams)
        if poison:  # one after the other in both rows, longer than what comes next
            bad = [engine.enqueue(poisoned(model, "What do you hear in this recording? " * 3, key=i)) for i in range(3)]
            engine.run()
            cached = np.asarray(engine.rows.cache.v.astype(jnp.float32))
            assert all(np.isnan(row).any() for row in cached), "the rows were not poisoned"
            for future in bad:
                with pytest.raises(NotFinite, match="NaN or infinite"):
                    future.result()
        futures = [engine.submit(a, q, **options) for a, q in zip(audios[:2], queries[:2], strict=True)]
        if poison:
            bad = engine.enqueue(poisoned(model, key=9))
        futures.append(engine.submit(audios[2], queries[2], **options))
        engine.run()
        if poison:
            with pytest.raises(NotFinite):
                bad.result()
        return [f.result().ids for f in futures]

    clean = answers(poison=False)
    assert answers(poison=True) == clean
    assert all(len(ids) >= 6 for ids in clean)


def test_a_stream_after_a_poisoned_row(model, clips_and_queries):
    audios, queries = clips_and_queries
    expected = model.generate(audios[:1], queries[:1], 8, min_length=8)[0]
    engine = model.engine(slots=1)
    engine.enqueue(poisoned(model))
    assert "".join(engine.stream(audios[0], queries[0], max_new_tokens=8, min_length=8)) == expected


def test_a_row_that_breaks_while_it_is_decoded(model, clips_and_queries):
    """Its keys become NaN after the first tokens: it fails, tells no token of that, and leaves nothing behind."""
    audios, queries = clips_and_queries
    expected = model.generate(audios[:2], queries[:2], 12, min_length=12, return_ids=True)
    engine, streamed = model.engine(slots=2, steps=2), []
    first = engine.submit(audios[0], queries[0], on_tokens=streamed.extend, max_new_tokens=12, min_length=12)
    second = engine.submit(audios[1], queries[1], on_tokens=lambda ids: None, max_new_tokens=12, min_length=12)
    engine.step()
    before, row = list(streamed), next(i for i, r in enumerate(engine.running) if r.future is first)
    broken = jax.tree.map(lambda a: a.at[row].set(jnp.nan), engine.rows.cache)
    engine.rows = dataclasses.replace(engine.rows, cache=broken)
    engine.run()
    with pytest.raises(NotFinite):
        first.result()
    assert streamed == before == expected[0][: len(streamed)]
    assert second.result().ids == expected[1]
    again = engine.submit(audios[0], queries[0], max_new_tokens=12, min_length=12)
    engine.run()
    assert again.result().ids == expected[0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("queries", [1, 5])
def test_masked_slots_do_not_affect_attention(value, queries):
    rng = np.random.default_rng(0)
    rows, layers, heads, slots, width = 2, 2, 2, 12, 4
    k, v = (jnp.asarray(rng.standard_normal((rows, layers, heads, slots, width)), jnp.float32) for _ in range(2))
    new = [jnp.asarray(rng.standard_normal((rows, queries, n, width)), jnp.float32) for n in (4, heads, heads)]
    at = jnp.array([3, 6], jnp.int32)
    visible = jnp.arange(slots) <= (at[:, None] + jnp.arange(queries))[..., None]
    unseen = ~visible.any(1)[:, None, None, :, None]
    mix = attend_cached(at, visible)
    expected, _ = mix(KVCache(k, v), jnp.int32(1), *new)
    spoilt = KVCache(*(jnp.where(unseen, value, a) for a in (k, v)))
    out, _ = mix(spoilt, jnp.int32(1), *new)
    np.testing.assert_array_equal(np.asarray(out), np.asarray(expected))


def test_a_batch_names_the_query_without_an_answer(model, clips_and_queries, monkeypatch):
    """One of several queries has no answer: the error names it and holds the answers to the others."""
    audios, queries = clips_and_queries
    expected = model.generate(audios[:3], queries[:3], 6)
    spoil(monkeypatch, audios[1])
    model.encodings = Encodings()
    with pytest.raises(NotFinite, match=r"query 1: .*NaN or infinite") as caught:
        model.generate(audios[:3], queries[:3], 6)
    texts = [answer and answer.text for answer in caught.value.answers]
    assert texts == [expected[0], None, expected[2]]


def spoil(monkeypatch, audio):
    """From now on the encoder returns NaN for one clip."""
    original = audio_cache.encode

    def encode(graphdef, state, sounds, mesh=None):
        vectors = original(graphdef, state, sounds, mesh)
        bad = [np.array_equal(sound.read(), audio) for sound in sounds]
        return [v * jnp.nan if b else v for v, b in zip(vectors, bad, strict=True)]

    monkeypatch.setattr(audio_cache, "encode", encode)


def test_scores_that_are_not_finite_are_none(model, clips_and_queries, monkeypatch):
    """The error names the query and holds the scores of the others. (An argmax of NaN would be the first label.)"""
    audios, queries = clips_and_queries
    labels, model.encodings = ["Owl", "Fox"], Encodings()
    expected = model.score(audios[:3], queries[:3], labels)
    spoil(monkeypatch, audios[1])
    for options in ({}, {"normalize": "mean"}, {"against": "None"}):
        model.encodings = Encodings()
        with pytest.raises(NotFinite, match=r"query 1: .*NaN or infinite") as caught:
            model.score(audios[:3], queries[:3], labels, **options)
        assert [scores is None for scores in caught.value.answers] == [False, True, False]
        if not options:
            np.testing.assert_array_equal(caught.value.answers[2], expected[2])
    model.encodings = Encodings()
    item = types.SimpleNamespace(part="zf", id="1", query=queries[0], label="Owl", waveform=lambda: None)
    items = [item] * 3
    replies = ranking.ranked_replies(model, {"zf": ranking.Candidates(labels)}, lambda *_: [])(items, audios[:3])
    assert [reply is None for reply in replies] == [False, True, False]


def test_a_window_without_an_answer_is_named(model, clips_and_queries, monkeypatch, tmp_path):
    audios, queries = clips_and_queries
    sound = np.concatenate([wave.fit(audio, 16_000) for audio in audios[:3]])
    soundfile.write(tmp_path / "a.wav", sound, 16_000, subtype="FLOAT")
    spoil(monkeypatch, sound[16_000:32_000])
    model.encodings = Encodings()
    with pytest.raises(NotFinite, match=r"a\.wav at 1 s: the model's output .* is NaN or infinite"):
        model.generate_windows(tmp_path / "a.wav", queries[0], 1.0, max_new_tokens=3)


def test_arrays_far_above_full_scale_are_refused(model, clips_and_queries):
    """They would be clipped to full-scale noise (`generate`) or result in NaN (`encode_audio`) without a message."""
    audios, queries = clips_and_queries
    model.encodings = Encodings()
    methods = (
        lambda loud: model.generate([loud], queries[:1], 3),
        lambda loud: model.score([loud], queries[:1], ["a"]),
        lambda loud: model.logits(["<AudioHere> What?"], ["a"], [[loud]]),
        lambda loud: model.encode_audio(loud[None]),
    )
    for loud in (np.full(16_000, 3e38, np.float32), 32_768 * audios[0], jnp.full(16_000, -9.0, jnp.bfloat16)):
        for method in methods:
            with pytest.raises(UserError, match="where full scale is 1"):
                method(loud)
    for method in methods:
        method(np.random.default_rng(0).standard_normal(16_000))  # a signal of unit variance


def test_infer_writes_an_error_row_and_continues(model, clips_and_queries, monkeypatch, tmp_path):
    audios, _ = clips_and_queries
    file = tmp_path / "a.wav"
    windows = [(Window(file, float(i), i + 1.0), audio, "") for i, audio in enumerate(audios[:3])]

    def answers(group):
        return infer_command.answer(model, group, "What?", 1.0, {file: 16_000}, max_new_tokens=5)

    expected = answers(windows)
    model.encodings = Encodings()
    spoil(monkeypatch, audios[1])
    rows = answers([*windows, (windows[0][0], None, "cannot be read")])
    assert rows[0] == expected[0]
    assert rows[2] == expected[2]
    assert "prediction" not in rows[1]
    assert rows[1]["error"] == NO_ANSWER
    assert rows[3]["error"] == "cannot be read"
    item = types.SimpleNamespace(part="zf", id="1", query="What?", label="x", waveform=lambda: None)
    items = [item] * 3
    replies = ranking.generated_replies(model, max_new_tokens=5)(items, audios[:3])
    assert [reply and reply.text for reply in replies] == [expected[0]["prediction"], None, expected[2]["prediction"]]
